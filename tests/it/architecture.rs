//! Who may import whom.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Direct dependencies of each package of the workspace, without those of its tests.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let package = |package: &Value| {
        let all = package["dependencies"].as_array().unwrap().iter();
        let real = all.filter(|dependency| dependency["kind"] != "dev");
        (text(&package["name"]), real.map(|dependency| text(&dependency["name"])).collect())
    };
    metadata["packages"].as_array().unwrap().iter().map(package).collect()
}

#[test]
fn packages_import_only_what_they_may() {
    let all = dependencies();
    let ours = |package: &str| -> BTreeSet<&str> {
        all[package]
            .iter()
            .map(String::as_str)
            .filter(|name| name.starts_with("taskwatch"))
            .collect()
    };
    let table: [(&str, &[&str]); 6] = [
        ("taskwatch-protocol", &[]),
        ("taskwatch-server", &["taskwatch-protocol"]),
        ("taskwatch-task-api", &["taskwatch-protocol", "taskwatch-server"]),
        ("taskwatch-client", &["taskwatch-protocol"]),
        ("taskwatch-cli", &["taskwatch-client"]),
        ("taskwatch-bench", &["taskwatch-client", "taskwatch-server"]),
    ];
    for (package, allowed) in table {
        let allowed: BTreeSet<&str> = allowed.iter().copied().collect();
        let foreign: Vec<_> = ours(package).difference(&allowed).copied().collect();
        assert!(foreign.is_empty(), "{package} may not import {foreign:?}");
    }
    assert_eq!(all.len(), table.len() + 1, "a new package needs a row here");
}

#[test]
fn what_a_package_must_never_import() {
    let all = dependencies();
    let table: [(&str, &[&str]); 4] = [
        ("taskwatch-protocol", &["tokio", "axum", "futures-util"]),
        ("taskwatch-server", &["rusqlite", "clap", "reqwest"]),
        ("taskwatch-client", &["axum", "reqwest", "clap", "rusqlite"]),
        ("taskwatch-cli", &["axum", "rusqlite", "tokio-tungstenite"]),
    ];
    for (package, forbidden) in table {
        for name in forbidden {
            assert!(!all[package].contains(*name), "{package} may not import {name}");
        }
    }
    let backoff: Vec<_> = all.iter().filter(|(_, names)| names.contains("backoff")).collect();
    assert_eq!(backoff.len(), 1, "only the SDK may know the backoff crate");
}
