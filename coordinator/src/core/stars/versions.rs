//! Versions of the Stars, as their hellos say. Stars of other versions than the coordinator work, until they are updated; the operator
//! is told once for each such version, and `orbit star ls` shows which Stars they are.

use orbit_shared::bulletin::Severity;
use orbit_shared::words::StarId;

use super::Stars;
use crate::core::notices::COORDINATOR;
use crate::core::saying::Wording;
use crate::core::turn::Turn;

/// The version of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The category of the bulletins.
const CATEGORY: &str = "version";

impl Stars {
    /// Notes the version that a Star says in its hello. Says so if it is another one than before and than this program's.
    pub(in crate::core) fn note_version(&mut self, turn: &mut Turn, name: &StarId, version: &str) {
        let star = self.by_name.get_mut(name).expect("who has said hello is known");
        let before = std::mem::replace(&mut star.version, version.to_owned());
        if before == version {
            return;
        }
        // One message for all Stars of a version: the board counts its repeats.
        let message = |version: &str| {
            format!(
                "a Star of version {version} is in this grid, and the coordinator is of version {VERSION}: `orbit star ls` shows which; \
                 update them so that all are of one version"
            )
        };
        if version != VERSION {
            let message = message(version);
            turn.post((Severity::Warning, COORDINATOR, CATEGORY), None, &message);
        }
        let is_last = !before.is_empty() && self.iter().all(|star| star.version != before);
        if is_last {
            let message = message(&before);
            turn.resolve((Severity::Warning, COORDINATOR, CATEGORY), vec![Wording::Begins(message)]);
        }
    }
}
