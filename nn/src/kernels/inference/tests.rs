//! Teams; passes are tested against the plain transformer where that is defined.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn every_member_takes_part_and_all_meet() {
    for members in [1, 2, 5] {
        let team = Team::new(members);
        for round in 0..200 {
            let (before, after) = (AtomicUsize::new(0), AtomicUsize::new(0));
            team.run(&|member| {
                before.fetch_add(1, Ordering::SeqCst);
                member.meet();
                assert_eq!(before.load(Ordering::SeqCst), members);
                member.meet();
                after.fetch_add(member.rows(13).len(), Ordering::SeqCst);
            });
            assert_eq!(after.load(Ordering::SeqCst), 13, "round {round}");
        }
    }
}

#[test]
fn sleepers_are_woken() {
    let team = Team::new(3);
    for _ in 0..3 {
        std::thread::sleep(std::time::Duration::from_millis(5));
        let count = AtomicUsize::new(0);
        team.run(&|_| {
            count.fetch_add(1, Ordering::SeqCst);
        });
        assert_eq!(count.load(Ordering::SeqCst), 3);
    }
}

#[test]
fn a_panic_reaches_the_caller_and_the_team_goes_on() {
    let team = Team::new(3);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        team.run(&|member| {
            assert!(member.index() != 1, "as planned");
            member.meet();
        });
    }));
    assert!(caught.is_err());
    let count = AtomicUsize::new(0);
    team.run(&|member| {
        member.meet();
        count.fetch_add(1, Ordering::SeqCst);
    });
    assert_eq!(count.load(Ordering::SeqCst), 3);
}
