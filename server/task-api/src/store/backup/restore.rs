//! A store out of a backup. What was in the folder is kept, whole, in a folder of its own.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use super::super::{DATABASE, JOURNAL, OpenError, lock, session};
use super::{BackupError, Contents, open_file, remove, sync_folder_of, verify_file, write_copy};

/// A store that was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// What it holds.
    pub contents: Contents,
    /// What could not be looked at in the backup.
    pub notes: Vec<String>,
    /// Where the store is that was there before.
    pub aside: Option<PathBuf>,
}

/// Makes the store in `dir` one that holds what `file` holds.
///
/// At each moment the folder is a store: the old one, or the new one with a journal that it does not take
/// for its own, see `session.rs`.
pub(crate) fn restore(file: &Path, dir: &Path) -> Result<Restored, BackupError> {
    let report = verify_file(file)?;
    if !report.is_good() {
        return Err(BackupError::Damaged { path: file.to_owned(), report: Box::new(report) });
    }
    let _lock = lock(dir).map_err(|error| match error {
        OpenError::Locked { path } => BackupError::Locked { path },
        OpenError::Folder { path, source } => BackupError::File { path, source },
        other => BackupError::Impossible(other.to_string()),
    })?;
    let (part, database) = (dir.join("taskwatch.db.part"), dir.join(DATABASE));
    let aside = make_part(file, &part, &database).and_then(|()| set_database_aside(dir));
    let aside = aside.inspect_err(|_| {
        let _ = remove(&part);
    })?;
    fs::rename(&part, &database).map_err(BackupError::of(&database))?;
    sync_folder_of(&database)?;
    if let Some(aside) = &aside {
        for name in [JOURNAL, session::SESSION] {
            move_if_there(&dir.join(name), &aside.join(name))?;
        }
        sync_folder_of(&aside.join(DATABASE))?;
    }
    let index = dir.join(session::INDEX);
    remove(&index).map_err(BackupError::of(&index))?;
    sync_folder_of(&database)?;
    Ok(Restored { contents: report.contents, notes: report.notes, aside })
}

/// Whatever kind of copy the file is, this one never had a journal.
fn make_part(file: &Path, part: &Path, database: &Path) -> Result<(), BackupError> {
    write_copy(&open_file(file)?, part)?;
    if let Ok(old) = fs::metadata(database) {
        give_to_owner_of(&old, part).map_err(BackupError::of(part))?;
    }
    File::open(part).and_then(|part| part.sync_all()).map_err(BackupError::of(part))
}

/// Whoever restores may be somebody else than who serves.
fn give_to_owner_of(old: &Metadata, file: &Path) -> io::Result<()> {
    let new = fs::metadata(file)?;
    if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
        chown(file, Some(old.uid()), Some(old.gid()))?;
    }
    fs::set_permissions(file, old.permissions())
}

/// Keeps what is there under a second name; the first is about to be another's.
fn set_database_aside(dir: &Path) -> Result<Option<PathBuf>, BackupError> {
    let there = [DATABASE, JOURNAL].iter().any(|name| dir.join(name).exists());
    if !there {
        return Ok(None);
    }
    let aside = new_folder(dir)?;
    let (from, to) = (dir.join(DATABASE), aside.join(DATABASE));
    // Not every file system has links.
    match fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        kept => kept.and_then(|()| File::open(&to)?.sync_all()).map_err(BackupError::of(&to))?,
    }
    // On the disk before the first name is another's.
    sync_folder_of(&to)?;
    sync_folder_of(&aside)?;
    Ok(Some(aside))
}

fn new_folder(dir: &Path) -> Result<PathBuf, BackupError> {
    let mut number = 1_u32;
    loop {
        let folder = dir.join(format!("{}{number}", session::REPLACED));
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(BackupError::of(&folder)(error)),
        }
    }
}

fn move_if_there(from: &Path, to: &Path) -> Result<(), BackupError> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(BackupError::of(from)(error)),
        _ => Ok(()),
    }
}
