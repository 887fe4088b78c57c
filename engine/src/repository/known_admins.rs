//! Which admin a recipient's key has met. A recipient's slot is made without the recipient, so nothing in it shows that it is not a
//! forgery (SLOT-11): the first admin key that a key opens a slot of is remembered, and no other is believed from then on.

use crate::crypto::{Secret, derive};
use crate::error::{Error, ErrorKind, Result};
use crate::id::to_hex;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// Checks the admin key against the one that is remembered in `folder`, or remembers it.
///
/// # Errors
/// SLOT-11 where another one is remembered, [`ErrorKind::Unauthorized`] without a folder, [`ErrorKind::Unavailable`] where it cannot be
/// read or written.
pub(super) fn check(folder: Option<&Path>, seed: &Secret, admin_key: &[u8; 32]) -> Result<()> {
    let Some(folder) = folder else {
        let message = "a recipient's key opens a repository only where its admin key can be remembered from the first time on";
        return Err(Error::new(ErrorKind::Unauthorized, message));
    };
    let path = folder.join(&to_hex(derive("icecore known admin", &[seed.bytes()]).bytes())[..32]);
    let expected = format!("{}\n", to_hex(admin_key));
    let failed = |error| Error::io(format!("remembering the admin key in {}", path.display()), error).with_kind(ErrorKind::Unavailable);
    match fs::read_to_string(&path) {
        Ok(known) if known == expected => Ok(()),
        Ok(_) => {
            let message = format!(
                "the repository has another admin key than the one that this recipient's key met first: the store may be serving a forgery. \
                 Where it is meant to be another repository, use a recipient's key of its own for it, or remove {}",
                path.display()
            );
            Err(Error::rule("SLOT-11", message))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => remember(folder, &path, &expected).map_err(failed),
        Err(error) => Err(failed(error)),
    }
}

fn remember(folder: &Path, path: &Path, text: &str) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    let unfinished = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    File::open(folder)?.sync_all()
}
