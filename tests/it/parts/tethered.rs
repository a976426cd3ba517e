//! A child process that ends with its owner: when dropped, and also when the test binary is killed or exits with it in a `static`.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "one that tests share is started in no test's runtime; whoever asks for it has nothing else to do"
)]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::support::{DEADLINE, TempDir};

/// The program takes the shell's place, so that its process id is the child's. Beside it waits a reader of a pipe whose other
/// end only the owner has: when that closes, the reader kills the whole process group, itself included.
const TETHER: &str = r#"exec 3<&0
( read -r _ <&3; kill -s KILL 0 ) >/dev/null 2>&1 &
exec "$@" </dev/null 3<&-"#;

/// A running program and what it prints.
pub struct Tethered {
    child: Child,
    rope: Option<ChildStdin>,
    dir: TempDir,
}

impl Tethered {
    /// Starts it, with standard output and standard error in one log.
    pub fn start(program: &Path, prepare: impl FnOnce(&mut Command)) -> Self {
        let dir = TempDir::new();
        let log = File::create(dir.path().join("log")).unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", TETHER, "sh"]).arg(program);
        prepare(&mut command);
        command.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let rope = child.stdin.take();
        Self { child, rope, dir }
    }

    /// Everything it has printed.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.path().join("log")).unwrap()).into_owned()
    }

    /// Tries until `ready` has something; fails where the program ends before, or takes longer than `deadline`.
    pub fn until<T>(&mut self, deadline: Duration, mut ready: impl FnMut(&str) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            let ended = self.child.try_wait().unwrap();
            let log = self.log();
            if let Some(found) = ready(&log) {
                return found;
            }
            assert!(ended.is_none(), "it ended ({ended:?}) before it was ready:\n{log}");
            assert!(started.elapsed() < deadline, "it was not ready in time:\n{log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends it a signal, such as `STOP`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("/bin/kill").args(["-s", name, &pid]).status().unwrap().success());
    }
}

impl Drop for Tethered {
    fn drop(&mut self) {
        // The reader kills before the process is reaped, while its id is nobody else's.
        drop(self.rope.take());
        let _ = self.child.wait();
    }
}

#[test]
fn a_program_ends_when_its_owner_is_killed() {
    let pid_of = |log: &str| log.lines().next().filter(|_| log.ends_with('\n')).map(str::to_owned);
    let is_alive =
        |pid: &str| Command::new("/bin/kill").args(["-s", "0", pid]).stderr(Stdio::null()).status().unwrap().success();
    let mut kept = Tethered::start(Path::new("/bin/sh"), |sh| _ = sh.args(["-c", "echo $$; exec sleep 1000"]));
    let pid = kept.until(DEADLINE, pid_of);
    assert_eq!(pid, kept.child.id().to_string());
    kept.signal("STOP");
    drop(kept);
    assert!(!is_alive(&pid));

    // An owner that has no time to drop anything. Its output ends when nobody is left who could write to it.
    let script = r#"mkfifo "$0/rope"; /bin/sh -c "$1" sh /bin/sh -c 'echo up; exec sleep 1000' <"$0/rope" & exec 9>"$0/rope"; exec sleep 1000"#;
    let dir = TempDir::new();
    let mut owner = Command::new("/bin/sh");
    owner.args(["-c", script]).arg(dir.path()).arg(TETHER).stdout(Stdio::piped()).process_group(0);
    let mut owner = owner.spawn().unwrap();
    let mut output = BufReader::new(owner.stdout.take().unwrap());
    let (mut line, (told, over)) = (String::new(), mpsc::channel());
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "up\n");
    std::thread::spawn(move || told.send(output.read_line(&mut String::new()).unwrap()));
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert_eq!(over.recv_timeout(DEADLINE), Ok(0), "it outlives its owner");
}
