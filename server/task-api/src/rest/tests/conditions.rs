//! Versions, pages and methods, as HTTP has them.

use super::*;

#[tokio::test]
async fn who_has_a_version_is_not_sent_it_again() {
    let server = Server::start().await;
    let path = server.task("acme/api").await;
    let ask = |method: &'static str, name: &'static str, tag: &'static str| {
        server.send(server.request(method, &path).header(name, tag))
    };
    for (tag, status) in
        [("\"v1\"", 304), ("W/\"v1\"", 304), ("\"v9\", \"v1\"", 304), ("*", 304), ("\"v2\"", 200)]
    {
        for method in ["GET", "HEAD"] {
            let reply = ask(method, "if-none-match", tag).await;
            assert_eq!((reply.status.as_u16(), reply.header("etag")), (status, "\"v1\""), "{tag}");
            assert_eq!(reply.body.is_null(), status == 304 || method == "HEAD");
        }
    }
    assert_eq!(ask("GET", "if-match", "\"v1\"").await.status, StatusCode::OK);
    ask("GET", "if-match", "\"v2\"").await.problem(412, "version_conflict");
}

#[tokio::test]
async fn a_list_is_filtered_sorted_and_linked_with_all_its_parameters() {
    let server = Server::start().await;
    for (repository, priority, assignee) in [
        ("acme/api", "low", "ann"),
        ("acme/web", "high", "bob"),
        ("b", "high", "ann"),
        ("acme/web", "medium", "eve"),
    ] {
        server.post(json!({
            "repository": repository, "title": format!("Fix {repository}"), "priority": priority,
            "assignee": assignee, "tags": ["x"],
        })).await;
    }
    let query = "repo=acme/*&assignee=ann&assignee=bob&tag=x&text=FIX&sort=-priority&limit=1\
                 &changed_since=2020-01-01T00:00:00Z";
    let first = server.get(&format!("/api/v1/tasks?{query}")).await;
    assert_eq!(first.body["tasks"][0]["assignee"], "bob", "{}", first.body);
    assert!(first.header("task-cursor").ends_with("-4"));
    server.task("acme/api").await;
    let link = first.header("link").strip_prefix('<').unwrap();
    let next = link.strip_suffix(">; rel=\"next\"").unwrap();
    for kept in ["assignee=ann", "assignee=bob", "tag=x", "sort=-priority", "limit=1", "page=p2-"] {
        assert!(next.contains(kept), "{next}");
    }
    let second = server.get(next).await;
    assert_eq!(second.body["tasks"][0]["assignee"], "ann");
    assert_eq!(second.header("task-cursor"), first.header("task-cursor"));
    assert_eq!(second.body["next"], Value::Null);

    let page = first.body["next"].as_str().unwrap();
    for query in [
        format!("page={page}"),
        "sort=title".into(),
        "limit=1&limit=1".into(),
        "colour=red".into(),
        "priority=urgent".into(),
        "text=".into(),
        "changed_since=yesterday".into(),
    ] {
        server.get(&format!("/api/v1/tasks?{query}")).await.problem(400, "bad_message");
    }
}

#[tokio::test]
async fn a_method_that_is_asked_for_is_told() {
    let server = Server::start().await;
    let path = server.task("acme/api").await;
    let options = server.send(server.request("OPTIONS", &path)).await;
    assert_eq!(options.status, StatusCode::NO_CONTENT);
    assert_eq!(options.header("allow"), "GET,HEAD,PATCH,DELETE");
    let patch = server.request("PATCH", &path).header("content-type", "text/plain").body("{}");
    let refused = server.send(patch).await;
    refused.problem(415, "unsupported_media_type");
    assert_eq!(refused.header("accept-patch"), "application/merge-patch+json, application/json");
}
