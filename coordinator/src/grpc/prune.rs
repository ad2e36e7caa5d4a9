//! Retention: which snapshots a policy keeps, and the deletion of the others.

use orbit_proto::v1;
use tonic::Status;

use super::Faces;

impl Faces {
    pub(super) async fn prune(
        &self,
        _request: v1::PruneSnapshotsRequest,
    ) -> Result<Vec<v1::RetentionDecision>, Status> {
        Err(Status::unimplemented("retention"))
    }
}
