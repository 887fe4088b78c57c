//! What a place can do of what is wanted of it.

/// Something that is wanted of a store or a file system, and whether it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ability {
    /// What it is, for people.
    pub name: &'static str,
    /// What it is wanted for.
    pub purpose: &'static str,
    /// How much depends on it.
    pub need: Need,
    /// Whether it is there.
    pub found: Found,
}

/// How much depends on an [`Ability`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing can be written safely without it.
    Must,
    /// Something works less well without it, or only with care.
    Should,
    /// All works without it; it is good to know.
    May,
}

/// What came of trying an [`Ability`] out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It is there; some come in kinds, which are named.
    Yes(Option<String>),
    /// It is not there, and why.
    No(String),
    /// It could not be found out, and why.
    Unknown(String),
}

impl Ability {
    /// Why it is not there; `None` where it is, or where that is not known.
    pub fn missing(&self) -> Option<&str> {
        match &self.found {
            Found::No(why) => Some(why),
            Found::Yes(_) | Found::Unknown(_) => None,
        }
    }
}

impl Found {
    /// There where nothing is said against it.
    pub(super) fn unless(missing: Option<String>) -> Self {
        missing.map_or(Self::Yes(None), Self::No)
    }
}
