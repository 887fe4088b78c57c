//! What opens a repository: a passphrase, a key file or an external command, from where the user keeps it. Never from the command line itself,
//! which other users of the machine can read.

use crate::environment;
use crate::exit::usage;
use anyhow::Context as _;
use clap::Args;
use icecore::repository::Key;
use icecore::runtime::Runtime;
use icecore::{Error, ErrorKind};
use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io::{IsTerminal, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use zeroize::Zeroizing;

/// No passphrase or key file is longer.
const LENGTH_MAX: u64 = 64 << 10;

/// Options that say where the passphrase or key is.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Passphrase or key")]
pub(crate) struct SecretOptions {
    /// File that holds the passphrase (one line end at its end is no part of it) [env: ICECORE_PASSWORD_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Shell command that prints the passphrase
    #[arg(long, global = true, value_name = "COMMAND")]
    password_command: Option<OsString>,
    /// Key file, which needs no passphrase [env: ICECORE_KEY_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Shell command that prints the key, say by asking a key service to decrypt it
    #[arg(long, global = true, value_name = "COMMAND")]
    key_command: Option<OsString>,
}

/// Where the passphrase or key is taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Secret {
    /// A file with a passphrase.
    PasswordFile(PathBuf),
    /// A shell command that prints it.
    PasswordCommand(OsString),
    /// The variable `ICECORE_PASSWORD`.
    PasswordVariable,
    /// A key file.
    KeyFile(PathBuf),
    /// A shell command that prints a key.
    KeyCommand(OsString),
    /// Whoever sits at the terminal.
    Prompt,
}

impl SecretOptions {
    /// What the options name.
    ///
    /// # Errors
    /// Usage, where they name several.
    pub(crate) fn named(&self) -> anyhow::Result<Option<Secret>> {
        let named = [
            self.password_file.clone().map(Secret::PasswordFile),
            self.password_command.clone().map(Secret::PasswordCommand),
            self.key_file.clone().map(Secret::KeyFile),
            self.key_command.clone().map(Secret::KeyCommand),
        ];
        let mut named = named.into_iter().flatten();
        match (named.next(), named.next()) {
            (_, Some(_)) => Err(usage("give one of --password-file, --password-command, --key-file and --key-command, not several")),
            (named, None) => Ok(named),
        }
    }
}

impl Secret {
    /// What the environment names; where it names several, a passphrase file goes before a passphrase, and both before a key file.
    pub(crate) fn of_environment() -> Option<Self> {
        let file = |name| environment::variable(name).map(PathBuf::from);
        file("ICECORE_PASSWORD_FILE")
            .map(Self::PasswordFile)
            .or_else(|| environment::variable("ICECORE_PASSWORD").map(|_| Self::PasswordVariable))
            .or_else(|| file("ICECORE_KEY_FILE").map(Self::KeyFile))
    }

    /// The option that says the same.
    pub(crate) fn option(&self) -> &'static str {
        match self {
            Self::PasswordFile(_) | Self::PasswordVariable | Self::Prompt => "password-file",
            Self::PasswordCommand(_) => "password-command",
            Self::KeyFile(_) => "key-file",
            Self::KeyCommand(_) => "key-command",
        }
    }

    /// Where it comes from, for people.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::PasswordFile(path) => format!("the passphrase in {}", path.display()),
            Self::PasswordCommand(_) => "the passphrase that a command prints".into(),
            Self::PasswordVariable => "the passphrase in ICECORE_PASSWORD".into(),
            Self::KeyFile(path) => format!("the key file {}", path.display()),
            Self::KeyCommand(_) => "the key that a command prints".into(),
            Self::Prompt => "the passphrase that was typed".into(),
        }
    }

    /// Gets it. `is_new`: for a repository that is being made, so a typed passphrase is asked for twice.
    pub(crate) fn key(&self, is_new: bool) -> anyhow::Result<Key> {
        let key = match self {
            Self::PasswordFile(path) => Key::passphrase_from_file(&read(path, "passphrase file")?),
            Self::PasswordCommand(command) => Key::passphrase_from_file(&run(command, "passphrase command")?),
            Self::PasswordVariable => Key::passphrase(environment::variable("ICECORE_PASSWORD").unwrap_or_default().into_vec()),
            Self::KeyFile(path) => {
                let text = read(path, "key file")?;
                Key::from_key_file(std::str::from_utf8(&text).unwrap_or_default())
            }
            Self::KeyCommand(command) => {
                let text = run(command, "key command")?;
                Key::from_command_output(std::str::from_utf8(&text).unwrap_or_default())
            }
            Self::Prompt => return prompt(is_new),
        };
        // Wrong in the same sense as a passphrase that does not fit.
        key.map_err(|error| error.context(self.describe()).with_kind(ErrorKind::Unauthorized).into())
    }
}

pub(crate) fn read(path: &Path, what: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    // One that is missing opens as little as one that is wrong.
    let absent = |error| Error::io(format!("{what} {}", path.display()), error).with_kind(ErrorKind::Unauthorized);
    let file = std::fs::File::open(path).map_err(absent)?;
    read_all(file, &format!("{what} {}", path.display()))
}

fn read_all(from: impl Read, what: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    // Room for all of it at once: growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LENGTH_MAX as usize + 1));
    from.take(LENGTH_MAX + 1).read_to_end(&mut bytes).with_context(|| what.to_owned())?;
    match bytes.len() as u64 > LENGTH_MAX {
        true => Err(usage(format!("{what}: more than {LENGTH_MAX} bytes; that is no passphrase or key"))),
        false => Ok(bytes),
    }
}

fn run(command: &OsStr, what: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let shown = command.display();
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{what} `{shown}`"))?;
    let output = child.stdout.take().map(|stdout| read_all(stdout, what));
    let status = child.wait().with_context(|| format!("{what} `{shown}`"))?;
    match output {
        Some(output) if status.success() => output,
        _ => anyhow::bail!("{what} `{shown}` failed: {status}"),
    }
}

fn prompt(is_new: bool) -> anyhow::Result<Key> {
    if !std::io::stdin().is_terminal() {
        return Err(usage(
            "no passphrase or key was given and there is no terminal to ask at; give --password-file, --password-command, --key-file or --key-command, \
             or set ICECORE_PASSWORD, ICECORE_PASSWORD_FILE or ICECORE_KEY_FILE",
        ));
    }
    let ask = |question: &str| rpassword::prompt_password(question).map(Zeroizing::new).context("asking for the passphrase");
    let passphrase = ask(if is_new { "New passphrase for the repository: " } else { "Passphrase of the repository: " })?;
    if is_new && *ask("The same again: ")? != *passphrase {
        return Err(usage("the two passphrases differ; nothing was made"));
    }
    Key::passphrase(passphrase.as_bytes()).map_err(|error| usage(error.to_string()))
}

/// Makes a new key in a new file that only its owner can read, outside the repository.
pub(crate) fn new_key_file(path: &Path, repository: Option<&Path>, runtime: &Runtime) -> anyhow::Result<Key> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let (Ok(parent), Some(Ok(repository))) = (parent.canonicalize(), repository.map(Path::canonicalize))
        && parent.starts_with(repository)
    {
        return Err(usage("the key file must not lie in the repository that it opens; choose another folder"));
    }
    let key = Key::generate(runtime);
    write_key_file(path, &key)?;
    Ok(key)
}

/// Writes `key` to a new file that only its owner can read.
pub(crate) fn write_key_file(path: &Path, key: &Key) -> anyhow::Result<()> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Error::new(
            ErrorKind::AlreadyExists,
            format!("{}: there is a file already, which is left as it is; choose another name", path.display()),
        ),
        _ => Error::io(format!("writing the key file {}", path.display()), error).with_kind(ErrorKind::Unavailable),
    };
    let text = key.to_key_file().ok_or_else(|| Error::new(ErrorKind::Internal, "a passphrase has no key file"))?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::File::open(parent)?.sync_all()
    };
    Ok({ write }().map_err(failed)?)
}
