//! The description, against the routes that are there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use taskwatch_protocol::ErrorCode;
use taskwatch_server::{AccessPolicy, Anonymous, Authenticator, Hub, HubConfig};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::mcp::Mcp;
use crate::rest::{BodyLimits, router};
use crate::service::TaskService;
use crate::settings::Retention;
use crate::store::Store;

/// Addresses of all routes, as they are described, with their methods.
fn described(document: &Value) -> Vec<(String, BTreeSet<String>)> {
    let methods = |operations: &Value| -> BTreeSet<String> {
        operations.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect()
    };
    let paths = document["paths"].as_object().unwrap();
    paths.iter().map(|(path, operations)| (path.clone(), methods(operations))).collect()
}

#[tokio::test]
async fn what_is_described_is_there_and_nothing_else() {
    let server = Server::start().await;
    let document = server.get("/openapi.json").await;
    assert_eq!(document.header("content-type"), "application/json");
    let path = server.task("acme/api").await;
    let id = path.rsplit('/').next().unwrap();
    for (route, mut methods) in described(&document.body) {
        // A method that no route has: the answer names those that it does have.
        let refused = server.send(server.request("QUERY", &route.replace("{id}", id))).await;
        refused.problem(405, "method_not_allowed");
        if methods.contains("GET") {
            methods.insert("HEAD".into());
        }
        let allowed = refused.header("allow").split(',').map(|method| method.trim().to_owned());
        let mut allowed: BTreeSet<_> = allowed.collect();
        if allowed.contains("GET") {
            allowed.insert("HEAD".into());
        }
        assert_eq!(allowed, methods, "{route}");
    }
}

#[tokio::test]
async fn what_a_change_may_be_refused_with_is_described() {
    let server = Server::start().await;
    let document = server.get("/openapi.json").await.body;
    // Whatever changes tasks may be about a repository that the caller may not know of.
    for (path, method) in [
        ("/api/v1/tasks", "post"),
        ("/api/v1/tasks:batch", "post"),
        ("/api/v1/tasks/{id}", "patch"),
        ("/api/v1/tasks/{id}", "delete"),
    ] {
        let responses = &document["paths"][path][method]["responses"];
        for status in ["403", "404", "422", "503"] {
            assert!(responses[status].is_object(), "{method} {path}: {status}");
        }
    }
    let unreadable = &document["paths"]["/mcp"]["post"]["responses"]["400"]["content"];
    let kinds: Vec<_> = unreadable.as_object().unwrap().keys().collect();
    assert_eq!(kinds, ["application/json", "application/problem+json"]);
}

/// All routes, in front of nothing.
async fn routes() -> axum::Router {
    let dir = TempDir::new().unwrap();
    let retention = Retention { events: 1, age: Duration::ZERO };
    let (store, _) = Store::open(dir.path(), retention).unwrap();
    let hub = Hub::with_log(Arc::new(store.clone()), HubConfig::default());
    let service = TaskService::new(store);
    let anybody: Arc<dyn Authenticator> = Arc::new(Anonymous);
    let mcp = Mcp::new(service.clone(), hub.clone(), anybody.clone(), CancellationToken::new());
    let body = BodyLimits { bytes: 1, timeout: Duration::ZERO };
    router(service, hub, Arc::new(AccessPolicy::private()), anybody, body, mcp)
}

/// The router tells its paths to nobody but who debugs it.
#[tokio::test]
async fn every_route_is_described() {
    let server = Server::start().await;
    let document = server.get("/openapi.json").await;
    let described: BTreeSet<_> =
        described(&document.body).into_iter().map(|(path, _)| path).collect();
    let shown = format!("{:?}", routes().await);
    // Two are the router's own, for what no route takes; the page is not for programs.
    let own = |path: &&str| {
        *path == "/"
            || path.contains("__private__")
            || path.starts_with("/page/")
            || *path == "/taskwatch.js"
    };
    let paths = shown.split('"').filter(|text| text.starts_with('/') && !own(text));
    let routes: BTreeSet<_> = paths.map(str::to_owned).collect();
    assert!(routes.contains("/api/v1/tasks:batch"), "{shown}");
    let missing: Vec<_> = routes.difference(&described).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[tokio::test]
async fn every_reference_leads_somewhere() {
    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let server = Server::start().await;
    let document = server.get("/openapi.json").await.body;
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 10);
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn whatever_is_refused_is_a_problem_with_a_known_word() {
    let server = Server::start().await;
    let document = server.get("/openapi.json").await.body;
    let known: Vec<_> = ErrorCode::KNOWN.iter().map(ErrorCode::as_str).collect();
    let mut refused = 0;
    let hostile = [
        ("content-type", "application/json", "{"),
        ("content-type", "text/plain", "x"),
        ("content-type", "application/json", "[]"),
        ("content-type", "application/json", "{\"title\":1}"),
        ("if-match", "\"v9\"", ""),
        ("idempotency-key", "a b", "{}"),
        ("x-version", "9", ""),
        ("host", "evil.example", ""),
        ("origin", "https://evil.example", ""),
        ("accept", "text/html", ""),
        ("authorization", "Bearer x", ""),
        ("content-type", "application/json", r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#),
    ];
    for (route, _) in described(&document) {
        if route == "/mcp" {
            // Its refusals are those of JSON-RPC.
            continue;
        }
        for tail in ["", "?limit=x&wait=x", "?token=secret", "?page=%ff&since=%00", "/", "%00"] {
            for id in ["%ff", "17", "00000000-0000-0000-0000-000000000000"] {
                let path = format!("{}{tail}", route.replace("{id}", id));
                for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
                    for (name, value, body) in hostile {
                        let request = server.request(method, &path).header(name, value);
                        let response = request.body(body).send().await.unwrap();
                        let status = response.status();
                        if !status.is_client_error() && !status.is_server_error() {
                            continue;
                        }
                        assert!(status.is_client_error(), "{status} to {method} {path}");
                        let kind = response.headers()["content-type"].clone();
                        if route == "/mcp" && kind == "application/json" {
                            let error: Value = response.json().await.unwrap();
                            assert!(error["error"]["code"].is_i64(), "{method} {path}: {error}");
                            continue;
                        }
                        assert_eq!(kind, "application/problem+json", "{method} {path}");
                        if method != "HEAD" {
                            let problem: Value = response.json().await.unwrap();
                            assert_eq!(problem["status"], status.as_u16());
                            let code = problem["code"].as_str().unwrap();
                            assert!(known.contains(&code), "{code} to {method} {path}");
                        }
                        refused += 1;
                    }
                }
                if !route.contains("{id}") {
                    break;
                }
            }
        }
    }
    assert!(refused > 1000, "{refused}");
}
