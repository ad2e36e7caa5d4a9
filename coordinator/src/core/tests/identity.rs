//! A grid has a name that its Stars keep, so that a coordinator with another store takes nobody over unawares.

use orbit_shared::bulletin::BulletinFilter;
use uuid::Uuid;

use super::world::{World, spec, star_id};
use crate::core::{CloseReason, CoreConfig, JobState};

const OURS: Uuid = Uuid::from_u128(1);
const THEIRS: Uuid = Uuid::from_u128(2);

fn world(takes_over: bool) -> World {
    World::with(CoreConfig { fresh_grid: OURS, takes_over, ..CoreConfig::default() })
}

fn posted(world: &World) -> Vec<String> {
    let filter = BulletinFilter { category: Some("grid".to_owned()), ..BulletinFilter::default() };
    world.core.board().query(&filter, 100).into_iter().map(|bulletin| bulletin.message.clone()).collect()
}

#[test]
fn a_star_that_belongs_to_no_grid_is_taken_in_and_told_which_it_is() {
    let mut world = world(false);
    world.connect("star-1", 1, &[]);
    assert_eq!((world.stars["star-1"].grid, world.store.grid), (Some(OURS), Some(OURS)));
    // The name is kept in the store, whatever the next process would give a new grid.
    world.config.fresh_grid = THEIRS;
    world.crash();
    world.grids.insert("star-1", OURS);
    world.connect("star-1", 1, &[]);
    assert_eq!((world.stars["star-1"].grid, world.store.grid), (Some(OURS), Some(OURS)));
    assert!(posted(&world).is_empty());
}

#[test]
fn a_store_of_an_earlier_build_gets_a_name_and_keeps_its_stars() {
    let mut world = world(false);
    world.connect("star-1", 1, &[]);
    world.store.grid = None;
    world.crash();
    world.connect("star-1", 1, &[]);
    assert_eq!((world.stars["star-1"].grid, world.store.grid), (Some(OURS), Some(OURS)));
}

#[test]
fn a_star_of_another_grid_is_refused_and_it_is_said_once_what_to_do() {
    let mut world = world(false);
    world.grids.insert("star-1", THEIRS);
    for _ in 0..5 {
        world.connect("star-1", 1, &[]);
        let closed = world.stars["star-1"].was_closed.clone();
        assert!(
            matches!(&closed, Some(CloseReason::OtherGrid { theirs: THEIRS, ours: OURS, .. })),
            "{closed:?}"
        );
    }
    assert!(world.core.star(&star_id("star-1")).is_none(), "it is not taken in");
    let said = posted(&world);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("--new-grid") && said[0].contains("--data-dir"), "{said:?}");
}

#[test]
fn a_new_grid_takes_stars_over_when_it_is_told_to() {
    let mut world = world(true);
    for name in ["star-1", "star-2"] {
        world.grids.insert(name, THEIRS);
        world.connect(name, 1, &[]);
        assert_eq!(world.stars[name].grid, Some(OURS));
    }
    assert_eq!(posted(&world).len(), 2);
    let id = world.create(spec("star-1", &["star-2"]));
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::Completed, "{}", world.job(id).reason);
}
