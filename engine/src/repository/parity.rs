//! How much parity a repository has, and changing that.

use super::protect::{self, Protector, remove};
use super::{Repository, generations, keys_changed};
use crate::backend::{BackendExt, ObjectInfo, ObjectKind, ObjectName};
use crate::crypto::Signer;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Certificate;
use crate::format::config::Config;
use crate::format::object::{Author, Header, Opened};
use crate::format::parity::sidecar_of;
use crate::progress::{Event, Progress};
use std::collections::HashSet;

/// The most that a sidecar can be asked to restore, in percent.
pub const PARITY_PERCENT_MAX: u8 = 15;

/// What protecting did.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Protected {
    /// Sidecars that were written.
    pub sidecars_written: u64,
    /// Sidecars that were removed.
    pub sidecars_removed: u64,
    /// Objects that got none, being damaged themselves; each with what is wrong.
    pub damaged: Vec<(ObjectName, String)>,
}

pub(super) fn check_percent(percent: u8) -> Result<u8> {
    match percent <= PARITY_PERCENT_MAX {
        true => Ok(percent),
        false => Err(Error::new(ErrorKind::Invalid, format!("{percent} percent of parity; at most {PARITY_PERCENT_MAX} can be had"))),
    }
}

impl Repository {
    /// Publishes a config with so much parity, which others notice as they notice new keys. This handle keeps the old one: open the
    /// repository again, and then [`Repository::protect`] gives sidecars to what has none, or takes them all away.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] without the admin key, [`ErrorKind::Invalid`] for more than [`PARITY_PERCENT_MAX`], [`ErrorKind::Busy`] where
    /// another admin was faster, otherwise what the backend says.
    pub fn set_parity(&self, percent: u8) -> Result<()> {
        self.require_writable()?;
        self.require_newest_config()?;
        let Some(seed) = &self.credential.admin_seed else {
            let message = format!("changing the config needs a credential with the role admin; this one is for {}", self.roles());
            return Err(Error::new(ErrorKind::Unauthorized, message));
        };
        if self.config.parity_percent() == 0 {
            // Whoever deleted objects meanwhile left these alone; they must not make them look lost.
            self.remove_sidecars(&mut Protected::default())?;
        }
        let name = ObjectName::config(self.generation);
        let bytes = self.backend.get(&name, name.kind().size_max())?;
        let mut config = Config {
            created: self.runtime.clock.now(),
            predecessor: Opened::check(&name, &bytes, &self.trust)?.hash,
            second_predecessor: [0; 32],
            ..self.config.clone()
        };
        config.set_parity_percent(check_percent(percent)?);
        let signer = Signer::new(seed);
        let author = Author { certificate: Certificate::of_admin(&signer, &self.id, self.generation), signer };
        let make = |name: &ObjectName| {
            let header = Header { name: *name, repository: self.id, structure_epoch: 0 };
            Ok(author.object(&header, &config.encode()))
        };
        let put = generations::put_next(&*self.backend, &self.trust, generations::next(self.generation)?, ObjectName::config, make);
        put.map(drop).map_err(|error| if error.kind() == ErrorKind::AlreadyExists { keys_changed() } else { error })
    }

    /// Gives a sidecar to every object that is whole and has none; or, where the config wants no parity, removes all sidecars. Can be stopped
    /// and run again.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] without the role maintain, [`ErrorKind::Cancelled`] when `progress` says so, otherwise what the backend says.
    pub fn protect(&self, progress: &dyn Progress) -> Result<Protected> {
        self.require(crate::format::Roles::MAINTAIN, "protecting what others wrote")?;
        self.require_writable()?;
        self.require_newest_config()?;
        let mut done = Protected::default();
        if self.config.parity_percent() == 0 {
            self.remove_sidecars(&mut done)?;
            return Ok(done);
        }
        let unprotected = self.unprotected()?;
        // `OthersDurable`, and I15: a sidecar without its object would say that it was lost. Each is read after that.
        self.backend.make_durable(&unprotected.iter().map(|object| object.name).collect::<Vec<_>>())?;
        let bytes_total = Some(unprotected.iter().map(|object| object.size).sum());
        progress.event(Event::Phase { name: "protect", bytes_total, items_total: Some(unprotected.len() as u64) });
        let protector = Protector::new(&self.credential, &self.config, self.id, self.generation);
        for object in unprotected {
            if progress.is_cancelled() {
                return Err(Error::new(ErrorKind::Cancelled, "stopped; what has a sidecar by now keeps it"));
            }
            match protect::verify(&*self.backend, &self.trust, &object) {
                Ok(_) => done.sidecars_written += u64::from(protector.protect(&*self.backend, &object)?),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Unsupported) => {
                    done.damaged.push((object.name, error.to_string()));
                }
                Err(error) => return Err(error),
            }
            progress.event(Event::Advance { bytes: object.size, items: 1 });
        }
        Ok(done)
    }

    /// Objects without a sidecar.
    fn unprotected(&self) -> Result<Vec<ObjectInfo>> {
        let sidecars: HashSet<_> = self.backend.list_sorted(ObjectKind::Parity)?.into_iter().map(|object| object.name).collect();
        let mut unprotected = Vec::new();
        for kind in ObjectKind::ALL.into_iter().filter(|kind| *kind != ObjectKind::Parity) {
            unprotected.extend(self.backend.list_sorted(kind)?.into_iter().filter(|object| !sidecars.contains(&sidecar_of(&object.name))));
        }
        Ok(unprotected)
    }

    fn remove_sidecars(&self, done: &mut Protected) -> Result<()> {
        for object in self.backend.list_sorted(ObjectKind::Parity)? {
            remove(&*self.backend, &object.name)?;
            done.sidecars_removed += 1;
        }
        Ok(())
    }
}
