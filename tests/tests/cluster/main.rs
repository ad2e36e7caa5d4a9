//! The compose cluster: the image, the compose file and the one documented command work, and a job ends whole whatever
//! is done to the containers. And what is packaged for machines without containers: units and the Debian package.
//!
//! Needs root and a Docker engine; without them it fails.

mod compose;
mod package;
mod planted;
