//! How ssh is called, and what its ends mean.

use super::*;

fn at() -> Destination {
    Destination { host: "deploy@game".into(), options: vec!["Port=2222".into()], batch: true }
}

#[test]
fn options_of_the_user_come_before_ours_and_the_host_is_never_an_option() {
    let command = at().command("entracte agent");
    let args: Vec<String> =
        command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
    assert_eq!(args[3..6], ["-T", "-o", "Port=2222"]);
    assert_eq!(args[args.len() - 3..], ["--", "deploy@game", "entracte agent"]);
}

#[test]
fn a_machine_that_falls_silent_while_ssh_logs_in_is_not_waited_for_for_ever() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        use std::io::Write;
        for _ in 0..2 {
            let mut stream = listener.accept().unwrap().0;
            stream.write_all(b"SSH-2.0-silent\r\n").unwrap();
            // Until the other side is gone.
            let _ = stream.read_to_end(&mut vec![]);
        }
    });
    let options = vec!["HostName=127.0.0.1".into(), format!("Port={port}")];
    let at = Destination { options, ..at() };
    let error = Connection::open_within(&at, "entracte agent", 1_000).unwrap_err();
    assert!(error.is_lost(), "it is tried again: {error}");
    let error = crate::wire::script::run_within(&at, "true", b"input", 1_000).unwrap_err();
    assert!(error.is_lost(), "{error}");
    server.join().unwrap();
}

#[test]
fn each_reason_of_ssh_has_its_error_and_its_hint() {
    let at = at();
    let kind = |code, said: &str| {
        let error = at.explain(Some(code), said);
        assert!(error.hint().is_some(), "{error}");
        error
    };
    let said = "@@@\r\nHost key verification failed.\r\n";
    assert!(matches!(kind(255, said), SshError::HostKey { .. }));
    let said = "deploy@game: Permission denied (publickey).\r\n";
    assert!(matches!(kind(255, said), SshError::Denied { .. }));
    let said = "ssh: connect to host game port 22: Connection refused\r\n";
    assert!(matches!(kind(255, said), SshError::Unreachable { .. }));
    let said = "bash: line 1: entracte: command not found\n";
    assert!(matches!(kind(127, said), SshError::NoProgram { .. }));
    assert!(matches!(kind(1, "error: something else\n"), SshError::NoAgent { .. }));
}

#[test]
fn words_reach_the_far_shell_as_they_are() {
    assert_eq!(quoted("/srv/a.toml"), "/srv/a.toml");
    assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
    assert_eq!(quoted(""), "''");
}
