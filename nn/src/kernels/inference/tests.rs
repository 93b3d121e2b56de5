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
fn a_thread_that_takes_longer_gets_fewer_rows() {
    let team = Team::new(2);
    let rows = [const { AtomicUsize::new(0) }; 2];
    for _ in 0..100 {
        team.run(&|member| {
            let count = member.rows(64).len();
            rows[member.index()].store(count, Ordering::SeqCst);
            let slowness = [1, 4][member.index()];
            std::thread::sleep(std::time::Duration::from_micros(100) * (count * slowness) as u32);
            // What it waits for others is not its own time.
            member.meet();
        });
    }
    let [fast, slow] = rows.map(AtomicUsize::into_inner);
    assert!(fast >= 2 * slow && slow > 0, "{fast} and {slow} rows");
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
