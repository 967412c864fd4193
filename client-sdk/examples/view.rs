//! What is left to do, always current: `cargo run --example view -- http://127.0.0.1:8787 foo`

use taskwatch_client::{Client, Status};

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "that is what it is for")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let url = args.next().unwrap_or_else(|| "http://127.0.0.1:8787".to_owned());
    let repositories = args.next().unwrap_or_else(|| "*".to_owned());

    let client = Client::builder(url).build()?;
    let mut view = client.view([repositories])?;
    view.ready().await?;
    let mut shown = None;
    loop {
        let tasks = view.tasks();
        let open = tasks.iter().filter(|task| task.status == Status::Pending).count();
        let now = Some((open, tasks.len()));
        if shown != now {
            shown = now;
            println!("{open} of {} tasks are pending", tasks.len());
        }
        // Otherwise the next change would have to copy the list.
        drop(tasks);
        view.changed().await?;
    }
}
