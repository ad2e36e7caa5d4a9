//! The compose cluster: the image, the compose file and the one documented command work, and a job completes whatever
//! is done to the containers. Also the packages for machines without containers: units and the Debian package.
//!
//! Needs root and a Docker engine; without them it fails.

mod compose;
mod package;
mod planted;
