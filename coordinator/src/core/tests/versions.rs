//! Stars of other versions than the coordinator are reported once for each version.

use super::vaults::said;
use super::world::{World, star_id};

const WARNING: &str = "is in this grid, and the coordinator is of version";

#[test]
fn another_version_is_said_once_and_taken_back_when_no_star_has_it() {
    let mut world = World::of_three();
    assert_eq!(said(&world, WARNING), (0, 0), "all are of one version");
    world.version = "0.0.1";
    world.connect("star-2", 2, &[]);
    world.connect("star-3", 3, &[]);
    assert_eq!(said(&world, "a Star of version 0.0.1"), (1, 1), "one line for both");
    let version =
        |world: &World, star: &str| world.core.star(&star_id(star)).map(|star| star.version.clone());
    assert_eq!(version(&world, "star-2").as_deref(), Some("0.0.1"));
    let before = world.core.board().by_category("version")[0].repeat_count;
    world.disconnect("star-2");
    world.connect("star-2", 2, &[]);
    assert_eq!(world.core.board().by_category("version")[0].repeat_count, before, "it was said");
    world.version = env!("CARGO_PKG_VERSION");
    world.connect("star-2", 4, &[]);
    assert_eq!(said(&world, WARNING), (1, 1), "star-3 still has it");
    world.connect("star-3", 5, &[]);
    assert_eq!(said(&world, WARNING), (1, 0));
}
