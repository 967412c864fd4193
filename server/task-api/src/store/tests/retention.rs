//! What is kept, and where the past begins.

use super::*;

#[tokio::test]
async fn retention_by_count_is_exact_when_idle() {
    for (made, floor) in [(9, 0), (10, 0), (11, 1), (13, 3)] {
        let mut bench = Bench::keeping(10, DAY);
        bench.create(made);
        bench.writer.trim(true);
        assert_eq!(bench.writer.state.floor, floor);
        assert_eq!(bench.read(floor).await.unwrap(), (floor + 1..=made).collect::<Vec<_>>());
        let kept = bench.store.cursor(floor);
        assert_eq!(bench.store.validate(&kept), Ok(floor));
        if let Some(lost) = floor.checked_sub(1) {
            assert!(matches!(bench.read(lost).await, Err(ReadError::Gone)));
            let expired = bench.store.validate(&bench.store.cursor(lost));
            assert_eq!(expired, Err(ResetReason::Expired));
        }
    }
}

#[test]
fn a_busy_writer_trims_in_full_steps_alone() {
    let mut bench = Bench::keeping(10, DAY);
    for (more, head, floor) in
        [(250, 250, 0), (250, 500, 0), (9, 509, 0), (1, 510, 500), (1, 511, 500)]
    {
        bench.make((0..more).map(|_| create("acme/api")).collect());
        assert_eq!((bench.store.head(), bench.writer.state.floor), (head, floor));
    }
}

#[tokio::test]
async fn retention_by_age_is_exact_when_idle() {
    for (age, kept) in [(99, vec![3]), (100, vec![2, 3]), (101, vec![2, 3])] {
        let mut bench = Bench::keeping(1000, Duration::from_millis(age));
        for offset in [0, 100, 200] {
            bench.set_clock(offset);
            bench.create(1);
        }
        bench.writer.trim(true);
        let floor = bench.writer.state.floor;
        assert_eq!(bench.read(floor).await.unwrap(), kept, "age {age}");
    }
}

#[tokio::test]
async fn a_time_is_the_position_before_what_happened_then() {
    let mut bench = Bench::keeping(4, DAY);
    let at = |offset| Timestamp::from_unix_millis(START + offset);
    assert_eq!(bench.store.seek_time(at(0)).await, Ok(0));
    for offset in [10, 20, 20, 40] {
        bench.set_clock(offset);
        bench.create(1);
    }
    for (offset, position) in
        [(-50, 0), (10, 0), (11, 1), (20, 1), (21, 3), (40, 3), (41, 4), (9_999, 4)]
    {
        assert_eq!(bench.store.seek_time(at(offset)).await, Ok(position), "{offset}");
    }
    // The first two go. Only who asks for them misses them.
    bench.set_clock(50);
    bench.create(2);
    bench.writer.trim(true);
    bench = bench.restart();
    for (offset, position) in [
        (0, Err(SeekError::Gone)),
        (20, Err(SeekError::Gone)),
        (21, Ok(3)),
        (45, Ok(4)),
        (51, Ok(6)),
    ] {
        assert_eq!(bench.store.seek_time(at(offset)).await, position, "{offset}");
    }
}

#[tokio::test]
async fn a_time_after_everything_that_is_gone_is_no_gap() {
    let mut bench = Bench::keeping(1_000, Duration::from_millis(100));
    bench.create(3);
    bench.set_clock(1_000);
    bench.writer.trim(true);
    let at = |offset| Timestamp::from_unix_millis(START + offset);
    assert_eq!(bench.store.seek_time(at(0)).await, Err(SeekError::Gone));
    assert_eq!(bench.store.seek_time(at(1)).await, Ok(3));
    bench.create(1);
    assert_eq!(bench.store.seek_time(at(500)).await, Ok(3));
}

#[test]
fn one_turn_deletes_at_most_a_step() {
    let mut bench = Bench::keeping(1, DAY);
    bench.writer.retention.events = 10_000;
    for _ in 0..5 {
        bench.make((0..250).map(|_| create("acme/api")).collect());
    }
    bench.writer.retention.events = 1;
    let mut floors = Vec::new();
    for _ in 0..4 {
        bench.writer.trim(true);
        floors.push(bench.writer.state.floor);
    }
    assert_eq!(floors, [500, 1000, 1249, 1249]);
}

#[tokio::test]
async fn the_sequence_survives_an_empty_log() {
    let mut bench = Bench::keeping(1000, Duration::ZERO);
    bench.create(3);
    bench.set_clock(1);
    bench.writer.trim(true);
    assert_eq!(bench.read(3).await.unwrap(), [] as [Seq; 0]);

    let mut bench = bench.restart();
    assert_eq!((bench.store.head(), bench.writer.state.floor), (3, 3));
    assert!(matches!(bench.read(2).await, Err(ReadError::Gone)));
    assert_eq!(bench.store.validate(&bench.store.cursor(3)), Ok(3));
    bench.create(1);
    assert_eq!(bench.seqs(), [4]);
}
