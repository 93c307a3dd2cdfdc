//! `entracte demo` as a visitor runs it, judged by its own report and by what it leaves behind.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn demo(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_entracte"))
        .args(["demo", "--players", "8", "--dir"])
        .arg(dir)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("the program was built for this test")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn two_releases_lose_no_request_and_no_row_and_the_broken_one_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let stage = dir.path().join("stage");
    let output = demo(&stage, &["--json"]);
    let said = format!("{}\n{}", text(&output.stdout), text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(report["ok"], true, "{said}");
    assert_eq!(report["wrong"], serde_json::json!([]));
    assert_eq!(report["players"], 8);
    assert_eq!(report["requests"]["lost"], 0);
    assert_eq!(report["rows"]["lost"], 0);
    assert_eq!(report["rows"]["unpromised"], 0);

    let first = &report["releases"][0];
    assert_eq!((&first["to"], &first["outcome"]), (&"1.1.0".into(), &"released".into()));
    let second = &report["releases"][1];
    assert_eq!((&second["to"], &second["outcome"]), (&"1.2.0".into(), &"taken back".into()));
    assert!(second["why"].as_str().unwrap().contains("no such column: charm"), "{said}");
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{value} in {said}"));
    for release in [first, second] {
        assert!(number(&release["closed_ms"]) > 0);
        // Nobody who was in can have missed less of the game than the gate says it was closed for.
        let longest = [&release["players_without_ms"], &release["door_without_ms"]];
        let longest = longest.iter().filter_map(|value| value.as_u64()).max().unwrap();
        assert!(longest >= number(&release["closed_ms"]), "{said}");
    }
    assert_eq!(report["taken_back"]["differences"], serde_json::json!([]));
    assert!(number(&report["taken_back"]["rows"]) > 2_000);
    assert!(number(&report["taken_back"]["rows_gone_between"]) > 0);
    assert!(number(&report["requests"]["by_page"]) > 0 && number(&report["rows"]["promised"]) > 0);
    assert_eq!(report["news"]["languages"], serde_json::json!(["en", "fr"]));

    let page = std::fs::read_to_string(report["page"]["file"].as_str().unwrap()).unwrap();
    assert!(page.contains("The Lantern Inn") && page.contains("</html>"));
    let version = std::fs::read_to_string(stage.join("production/inn/version.txt")).unwrap();
    assert_eq!(version, "1.1.0\n");
    // Nobody who was started is left: the gate's socket answers nobody.
    let socket = stage.join("production/state/gate/control.sock");
    assert!(std::os::unix::net::UnixStream::connect(socket).is_err());
}

#[test]
fn a_folder_with_something_in_it_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("mine"), "").unwrap();
    let output = demo(dir.path(), &[]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("is not empty"));
}
