//! Frames that wait for their peer: in memory up to a limit, then in a file without a name.

use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tempfile::SpooledTempFile;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::hub::Gauge;

/// Of this many bytes of files a budget has one permit.
pub(crate) const UNIT: u64 = 1024;

/// What one spool may take.
#[derive(Debug)]
pub(crate) struct SpoolLimits<'a> {
    /// Bytes in memory, and the right to take them; without it everything goes to the file.
    pub(crate) memory: Option<(OwnedSemaphorePermit, usize)>,
    /// What the files of all spools may take together, in [`UNIT`]s.
    pub(crate) disk: Arc<Semaphore>,
    /// Folder of the file; `None` is the system's for temporary files.
    pub(crate) dir: Option<&'a Path>,
    /// Where it is counted as long as it is there.
    pub(crate) spools: Arc<Spools>,
}

/// How many spools there are, and how many bytes they hold, in memory and in files.
#[derive(Debug, Default)]
pub(crate) struct Spools {
    pub(crate) count: Gauge,
    pub(crate) bytes: Gauge,
}

/// What one spool adds to them.
#[derive(Debug)]
struct Held {
    spools: Arc<Spools>,
    bytes: u64,
}

impl Held {
    fn new(spools: Arc<Spools>) -> Self {
        spools.count.change(0, 1);
        Self { spools, bytes: 0 }
    }

    fn add(&mut self, bytes: u64) {
        self.spools.bytes.change(0, bytes);
        self.bytes += bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.spools.bytes.change(self.bytes, 0);
        self.spools.count.change(1, 0);
    }
}

/// Takes frames.
#[derive(Debug)]
pub(super) struct Spool {
    file: SpooledTempFile,
    frames: u32,
    held: Held,
    memory: Option<OwnedSemaphorePermit>,
    disk: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
}

/// Gives them back, in order.
#[derive(Debug)]
pub(crate) struct SpooledFrames {
    file: SpooledTempFile,
    left: u32,
    _memory: Option<OwnedSemaphorePermit>,
    _taken: Option<OwnedSemaphorePermit>,
    _held: Held,
}

impl Spool {
    pub(super) fn new(limits: SpoolLimits<'_>) -> Self {
        let SpoolLimits { memory, disk, dir, spools } = limits;
        let (memory, max_size) = memory.map_or((None, 0), |(permit, bytes)| (Some(permit), bytes));
        let file = match dir {
            Some(dir) => tempfile::spooled_tempfile_in(max_size, dir),
            None => tempfile::spooled_tempfile(max_size),
        };
        Self { file, frames: 0, held: Held::new(spools), memory, disk, taken: None }
    }

    pub(super) fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        let len = u32::try_from(frame.len()).map_err(io::Error::other)?;
        self.file.write_all(&len.to_be_bytes())?;
        self.file.write_all(frame)?;
        self.frames += 1;
        self.held.add(u64::from(len) + size_of_val(&len) as u64);
        if self.file.is_rolled() {
            self.memory = None;
            self.take_disk()?;
        }
        Ok(())
    }

    fn take_disk(&mut self) -> io::Result<()> {
        let held = self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits) as u64;
        let missing = self.held.bytes.div_ceil(UNIT).saturating_sub(held);
        let missing = u32::try_from(missing).map_err(io::Error::other)?;
        let full =
            |_| io::Error::new(io::ErrorKind::QuotaExceeded, "too much waits for slow peers");
        let more = Arc::clone(&self.disk).try_acquire_many_owned(missing).map_err(full)?;
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            None => self.taken = Some(more),
        }
        Ok(())
    }

    pub(super) fn into_frames(mut self) -> io::Result<SpooledFrames> {
        self.file.rewind()?;
        let Self { file, frames, held, memory, taken, .. } = self;
        Ok(SpooledFrames { file, left: frames, _memory: memory, _taken: taken, _held: held })
    }
}

impl SpooledFrames {
    /// The next frame. A file is waited for elsewhere.
    pub(crate) async fn next(mut self) -> io::Result<(Self, Bytes)> {
        if !self.file.is_rolled() {
            let frame = self.read()?;
            return Ok((self, frame));
        }
        let read = tokio::task::spawn_blocking(move || {
            let frame = self.read()?;
            Ok((self, frame))
        });
        read.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// Whether every frame was given back.
    pub(crate) fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Waits for a file.
    pub(crate) fn read(&mut self) -> io::Result<Bytes> {
        let mut len = [0; size_of::<u32>()];
        self.file.read_exact(&mut len)?;
        let mut frame = vec![0; u32::from_be_bytes(len) as usize];
        self.file.read_exact(&mut frame)?;
        self.left = self.left.saturating_sub(1);
        Ok(frame.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool(memory: Option<&Arc<Semaphore>>, disk: &Arc<Semaphore>) -> Spool {
        let memory = memory.map(|permits| (Arc::clone(permits).try_acquire_owned().unwrap(), 100));
        Spool::new(SpoolLimits {
            memory,
            disk: Arc::clone(disk),
            dir: None,
            spools: Arc::default(),
        })
    }

    #[test]
    fn what_was_put_in_comes_out() {
        let (memory, disk) = (Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(100)));
        for memory in [None, Some(&memory)] {
            let mut spool = spool(memory, &disk);
            let frames: Vec<_> = (0..20).map(|len| vec![b'x'; len]).collect();
            frames.iter().for_each(|frame| spool.write(frame).unwrap());
            let mut spooled = spool.into_frames().unwrap();
            for frame in &frames {
                assert!(!spooled.is_empty());
                assert_eq!(spooled.read().unwrap(), frame);
            }
            assert!(spooled.is_empty() && spooled.read().is_err());
        }
    }

    #[test]
    fn a_file_gives_its_memory_back_and_takes_of_the_budget_until_it_is_gone() {
        let (memory, disk) = (Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(4)));
        let mut spool = spool(Some(&memory), &disk);
        spool.write(&[0; 90]).unwrap();
        assert_eq!((memory.available_permits(), disk.available_permits()), (0, 4));
        spool.write(&[0; 1000]).unwrap();
        assert_eq!((memory.available_permits(), disk.available_permits()), (1, 2));
        spool.write(&[0; 1000]).unwrap();
        let full = spool.write(&[0; 3000]).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::QuotaExceeded);
        let frames = spool.into_frames().unwrap();
        assert_eq!(disk.available_permits(), 1);
        drop(frames);
        assert_eq!(disk.available_permits(), 4);
    }

    #[test]
    fn a_spool_is_counted_until_its_last_frame_is_gone() {
        let disk = Arc::new(Semaphore::new(100));
        let spools = Arc::new(Spools::default());
        let limits = || {
            let (disk, spools) = (Arc::clone(&disk), Arc::clone(&spools));
            SpoolLimits { memory: None, disk, dir: None, spools }
        };
        let counted = || (spools.count.get(), spools.bytes.get());
        let (mut one, other) = (Spool::new(limits()), Spool::new(limits()));
        one.write(&[0; 96]).unwrap();
        assert_eq!(counted(), (2, 100));
        let frames = one.into_frames().unwrap();
        drop(other);
        assert_eq!(counted(), (1, 100));
        drop(frames);
        assert_eq!(counted(), (0, 0));
    }
}
