//! How to build on this crate: one recipe for each thing that programs want of events.
//!
//! Each recipe has a whole program in the folder `examples` of this crate, which runs against any
//! server: `cargo run -p taskwatch-client --example resume`.
//!
//! | I want to | take |
//! |---|---|
//! | see what happens | [a stream](#follow) |
//! | go on where I was after a restart | [a saved position](#go-on-after-a-restart) |
//! | do something exactly once for each event | [the position in the same transaction](#exactly-once) |
//! | do something that takes long, several at a time | [acks](#at-least-once-several-at-a-time) |
//! | know the tasks as they are | [a view](#the-tasks-as-they-are) |
//! | keep a copy of the tasks of my own | [a snapshot, then events](#a-snapshot-then-events) |
//!
//! # Follow
//!
//! A stream yields each event once and in order, and comes back by itself whatever happens to the
//! connection. So an `Err` is the end: coming back cannot help, and the text says why.
//!
//! ```no_run
//! use futures_util::StreamExt;
//! use taskwatch_client::Client;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder("http://127.0.0.1:8787").build()?;
//! let mut events = client.subscribe(["github.com/acme/*", "foo"])?;
//! while let Some(event) = events.next().await {
//!     let event = event?;
//!     println!("{} {}", event.kind(), event.task().title);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Nothing is missed from the moment at which the stream is [`ready`](crate::EventStream::ready). Who
//! causes an event and waits for it, waits for that first. Program: `tail`.
//!
//! # Go on after a restart
//!
//! The position to save is [`EventStream::cursor`](crate::EventStream::cursor), after the work on what
//! was yielded. If the program ends between the two, the last event comes again; none is left out. A
//! [`CursorFile`](crate::CursorFile) saves it whole, and keeps a second program from it.
//!
//! ```
//! use taskwatch_client::{Cursor, CursorFile};
//!
//! # let folder = std::env::temp_dir().join(format!("taskwatch-guide-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! # let path = folder.join("position");
//! let mut file = CursorFile::open(&path)?;
//! assert_eq!(file.cursor(), None); // the first run begins with what happens from now on
//! // … client.subscribe(["*"])?.since(file.cursor()), and behind each event:
//! file.save(&Cursor::new("c1-00000000000000a1-42"))?;
//! # drop(file);
//! # let file = CursorFile::open(&path)?;
//! // In the next run:
//! assert_eq!(file.cursor(), Some(Cursor::new("c1-00000000000000a1-42")));
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The position also moves while nothing happens in what is watched, as
//! [`Update::Bookmark`](crate::Update::Bookmark) tells. Save it then too, or after a long quiet time the
//! server may no longer know what has happened since. Program: `resume`.
//!
//! # Exactly once
//!
//! What is done for an event is done once if the position is saved in the same transaction: both are
//! there afterwards, or neither.
//!
//! ```no_run
//! # use futures_util::StreamExt;
//! # use taskwatch_client::{Client, Cursor, TaskEvent};
//! # struct Database;
//! # struct Transaction;
//! # impl Database {
//! #     fn position(&self) -> Option<Cursor> { None }
//! #     fn begin(&mut self) -> std::io::Result<Transaction> { Ok(Transaction) }
//! # }
//! # impl Transaction {
//! #     fn count(&mut self, _: &TaskEvent) -> std::io::Result<()> { Ok(()) }
//! #     fn set_position(&mut self, _: &str) -> std::io::Result<()> { Ok(()) }
//! #     fn commit(self) -> std::io::Result<()> { Ok(()) }
//! # }
//! # async fn example(client: Client, mut database: Database) -> Result<(), Box<dyn std::error::Error>> {
//! let mut events = client.subscribe(["*"])?.since(database.position());
//! while let Some(event) = events.next().await {
//!     let event = event?;
//!     let mut transaction = database.begin()?;
//!     transaction.count(&event)?;
//!     transaction.set_position(event.cursor.as_str())?;
//!     transaction.commit()?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A position is text: it fits into any column. Program: `transaction`.
//!
//! # At least once, several at a time
//!
//! Who hands events to tasks or other programs cannot save the position of what was yielded: some of it
//! is not done. With [`manual_ack`](crate::EventStream::manual_ack) the position waits for what is open, in
//! whatever order it is done, and after a crash all that was open comes again.
//!
//! ```no_run
//! # use futures_util::StreamExt;
//! # use taskwatch_client::{Client, CursorFile, Event};
//! # async fn notify(_: &Event) -> std::io::Result<()> { Ok(()) }
//! # async fn example(client: Client, mut file: CursorFile) -> Result<(), Box<dyn std::error::Error>> {
//! let mut events = client.subscribe(["*"])?.since(file.cursor()).manual_ack();
//! while let Some(event) = events.next().await {
//!     let (event, acker) = (event?, events.acker());
//!     tokio::spawn(async move {
//!         if notify(&event).await.is_ok() {
//!             acker.ack(&event.cursor);
//!         }
//!     });
//!     if let Some(cursor) = events.cursor() {
//!         file.save(&cursor)?;
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! An event that is never acknowledged holds the position back for good, so what fails is tried again, or
//! written down and acknowledged. How many are open at a time is for the program to limit, and so is the
//! order of those of one task. Program: `ack`.
//!
//! # The tasks as they are
//!
//! A [view](crate::Client::view) is for programs that want the state and not what leads to it. It stays
//! current by itself, across gaps too, and can be looked at from anywhere.
//!
//! ```no_run
//! # use taskwatch_client::{Client, Status};
//! # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
//! let mut view = client.view(["github.com/acme/*"])?;
//! view.ready().await?;
//! while view.tasks().iter().any(|task| task.status == Status::Pending) {
//!     view.changed().await?;
//! }
//! println!("nothing is pending");
//! # Ok(())
//! # }
//! ```
//!
//! Program: `view`.
//!
//! # A snapshot, then events
//!
//! Who keeps a copy elsewhere, such as a search index, begins with the tasks as they are.
//! Behind a snapshot comes exactly what has happened since. A snapshot replaces all that was known of its
//! repositories, also what is not in it; and it can come again, so that must be done each time.
//!
//! ```no_run
//! # use futures_util::StreamExt;
//! # use taskwatch_client::{Client, Pattern, Task, TaskEvent, Update};
//! # fn replace(_: &[Pattern], _: Vec<Task>) {}
//! # fn change(_: &TaskEvent) {}
//! # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
//! let mut updates = client.subscribe(["foo"])?.snapshot().updates();
//! while let Some(update) = updates.next().await {
//!     match update? {
//!         Update::Snapshot(state) => replace(&state.repositories, state.tasks),
//!         Update::Event(event) => change(&event),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Program: `snapshot`.
//!
//! # When events were lost
//!
//! A server keeps history for a while. If a stream comes back later than that, it ends with
//! [`WatchError::Gap`](crate::WatchError::Gap), unless [`on_gap`](crate::EventStream::on_gap) says how to go on.
//! What to choose depends on what an event that is missing does to the program:
//!
//! - It counts or bills: leave it at the error. A person has to look.
//! - It keeps a copy: [`OnGap::Snapshot`](crate::OnGap::Snapshot). The state comes in the place of what was lost.
//! - It notifies: [`OnGap::Live`](crate::OnGap::Live), and say that something is missing.
//!
//! ```no_run
//! # use futures_util::StreamExt;
//! # use taskwatch_client::{Client, Cursor, OnGap, Update};
//! # async fn example(client: Client, saved: Cursor) -> Result<(), Box<dyn std::error::Error>> {
//! let mut updates = client.subscribe(["foo"])?.since(saved).on_gap(OnGap::Live).updates();
//! while let Some(update) = updates.next().await {
//!     match update? {
//!         Update::Gap(gap) => println!("some changes are not shown: {}", gap.reason),
//!         Update::Event(event) => println!("{}", event.task().title),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The plain stream does not tell of a gap that it was allowed: take the
//! [`updates`](crate::EventStream::updates). Program: `gap`.
//!
//! # Tokens
//!
//! A stream lives longer than its tokens, so it is given somebody to ask: a [file](crate::ClientBuilder::token_file)
//! that may be replaced, or a [function](crate::ClientBuilder::token). It is asked before each connection and
//! before a token runs out, which then is renewed while events go on coming.
//!
//! ```
//! use taskwatch_client::{Client, Token, TokenError};
//!
//! # async fn log_in() -> std::io::Result<String> { Ok("an-example-token".to_owned()) }
//! let client = Client::builder("http://127.0.0.1:8787")
//!     .token(|| async {
//!         // Temporary: it is asked again after a while. Final: the stream ends.
//!         let text = log_in().await.map_err(|error| TokenError::Temporary(error.to_string()))?;
//!         Ok(Token::new(text)?)
//!     })
//!     .build()?;
//! # Ok::<(), taskwatch_client::BuildError>(())
//! ```
//!
//! # How the connection stands
//!
//! A [`ConnectionWatch`](crate::ConnectionWatch) is for a status line or a health check. It is true at once, also
//! while many events wait to be read.
//!
//! ```no_run
//! # async fn example(client: taskwatch_client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! let view = client.view(["*"])?;
//! let connection = view.connection();
//! let is_healthy = move || connection.get().is_live();
//! # Ok(())
//! # }
//! ```
//!
//! Program: `connection`.
//!
//! # Slow readers
//!
//! Read when you like. Up to 1,024 events or 4 MiB wait in the stream, then the connection is not read,
//! then it is given back; the rest waits in the server's log, and nothing is lost. What costs is to fall
//! behind by more than the log keeps. So a slow step belongs behind a queue of your own with a bound, or
//! into tasks as [above](#at-least-once-several-at-a-time), not into an unbounded channel.
//!
//! # Shutting down
//!
//! Dropping a stream closes its connection in the background. To end in order: stop reading, finish what
//! is open, save the position.
//!
//! ```no_run
//! # use futures_util::StreamExt;
//! # use taskwatch_client::{Client, CursorFile, Event};
//! # async fn work(_: Event) {}
//! # async fn stopped() {}
//! # async fn example(client: Client, mut file: CursorFile) -> Result<(), Box<dyn std::error::Error>> {
//! let mut events = client.subscribe(["*"])?.since(file.cursor());
//! let mut stop = std::pin::pin!(stopped()); // such as tokio::signal::ctrl_c()
//! loop {
//!     tokio::select! {
//!         event = events.next() => match event {
//!             Some(event) => work(event?).await, // is not interrupted: only what waits is
//!             None => break,
//!         },
//!         () = &mut stop => break,
//!     }
//! }
//! if let Some(cursor) = events.cursor() {
//!     file.save(&cursor)?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Logs
//!
//! Everything stands in a `tracing` span `taskwatch.stream`, and in one `taskwatch.connection` after the other within it.
//! `info` says that a connection came and went, `debug` why, `trace` shows frames and so tasks. No token is shown
//! by this crate.
//!
//! # Testing a consumer
//!
//! The feature `testing` has a hub that runs in the process of a test, without a socket and on a clock that may be
//! paused. It cuts connections, loses events and throws history away when it is told to, so that a test can show what a
//! program makes of it. The module `taskwatch_client::testing` has an example that is run, and `tests/consumer.rs` in the
//! source two consumers: one that starts anew after a gap, and one that goes on counting, which its test finds out.
