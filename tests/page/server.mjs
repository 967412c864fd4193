// A server in a few lines: a log, what PROTOCOL.md says of subscriptions, and faults on demand. What it sends waits
// in `queue` of its connection until the test lets it pass.

const matches = (pattern, name) =>
  pattern === name || (pattern.endsWith("*") && name.startsWith(pattern.slice(0, -1)));

export class Server {
  life = 1;
  log = [];
  lives = new Map([[1, this.log]]);
  begin = null; // the position of the first answer that got through
  first = 0; // events before this number are no longer kept
  forbidden = new Set();
  connections = new Set();
  serial = 0;

  head() {
    return this.cursor(this.log.length);
  }
  cursor(number) {
    return `c${this.life}-${number}`;
  }

  /** Changes a task of this repository. */
  write(repository, name, kind) {
    const task = { id: `${repository}/${name}`, repository, title: `change ${++this.serial}`, version: this.serial };
    const type = `task.${kind}`;
    const data = { task_id: task.id, repository, version: task.version, ...(kind === "deleted" ? { previous: task } : { task }) };
    const event = { type, cursor: this.cursor(this.log.length + 1), data };
    this.log.push(event);
    for (const connection of this.connections) connection.offer(event);
    return event;
  }

  /** The tasks as they are. */
  state(patterns) {
    const tasks = new Map();
    for (const { data } of this.log)
      data.task ? tasks.set(data.task_id, data.task) : tasks.delete(data.task_id);
    return [...tasks.values()].filter((task) => patterns.some((it) => matches(it, task.repository)));
  }

  /** Begins another life, with what is there, or with an older copy of it. */
  restore(kept) {
    this.life++;
    this.log = this.log.slice(0, kept).map((event, at) => ({ ...event, cursor: this.cursor(at + 1) }));
    this.lives.set(this.life, this.log);
    this.first = 0;
    for (const connection of [...this.connections]) connection.end();
  }

  accept(socket) {
    const connection = new Connection(this, socket);
    this.connections.add(connection);
    return connection;
  }
}

class Connection {
  queue = [];
  patterns = new Set();
  delivered = 0;
  isAsked = false;
  hasBegun = false;

  constructor(server, socket) {
    Object.assign(this, { server, socket });
    socket.heard = (frame) => this.heard(frame);
    socket.open();
    this.push({ type: "welcome", data: { server: "model/1", heartbeat_ms: 20_000 } });
  }

  push(frame) {
    this.queue.push(frame);
  }
  /** Lets so many frames pass. */
  deliver(count = Infinity) {
    for (let n = 0; n < count && this.queue.length && !this.socket.isClosed && !this.isMute; n++) {
      const frame = this.queue.shift();
      if (frame.type === "subscribed") this.server.begin ??= frame.cursor;
      this.socket.text(frame);
    }
  }
  end(code, reason) {
    this.server.connections.delete(this);
    if (!this.socket.isClosed) this.socket.end(code, reason);
  }

  offer(event) {
    if (![...this.patterns].some((it) => matches(it, event.data.repository))) return;
    this.delivered++;
    this.push(event);
  }
  bookmark() {
    return this.hasBegun || !this.isAsked ? { cursor: this.server.head() } : {};
  }
  ping() {
    this.push({ type: "ping", ...this.bookmark(), data: { delivered: this.delivered } });
  }

  heard({ type, id, data }) {
    const { server } = this;
    const head = server.head();
    if (type === "ping") this.push({ type: "pong", id, ...this.bookmark(), data: { delivered: this.delivered, head } });
    if (type === "unsubscribe") {
      for (const it of data.repositories) this.patterns.delete(it);
      this.push({ type: "unsubscribed", id, cursor: head, data: { accepted: data.repositories, head } });
    }
    if (type === "subscribe") this.subscribe(id, data, head);
  }

  subscribe(id, { repositories, since, on_gap, snapshot }, head) {
    const { server } = this;
    this.isAsked = true;
    const accepted = repositories.filter((it) => !server.forbidden.has(it));
    const denied = repositories.filter((it) => server.forbidden.has(it)).map((repository) => ({ repository, code: "not_found" }));
    const answer = (cursor, more) =>
      this.push({ type: "subscribed", id, cursor, data: { accepted, denied, head, ...more } });
    if (!accepted.length) return answer(undefined, { mode: "live" });
    const [, life, number] = /^c(\d+)-(\d+)$/.exec(since ?? "") ?? [];
    const reason =
      since === undefined ? null
      : Number(life) !== server.life ? "incarnation"
      : Number(number) < server.first ? "expired"
      : Number(number) > server.log.length ? "future"
      : null;
    if (reason && (on_gap ?? "error") === "error")
      return this.push({ type: "subscribed", id, data: { accepted: [], denied, mode: "reset", reason, head } });
    this.hasBegun = true;
    const withState = reason ? on_gap === "snapshot" : snapshot && since === undefined;
    if (since !== undefined && !reason) {
      answer(since, { mode: "resumed" });
      for (const it of accepted) this.patterns.add(it);
      for (const event of server.log.slice(Number(number))) this.offer(event);
    } else {
      for (const it of accepted) this.patterns.add(it);
      answer(withState ? undefined : head, reason ? { mode: "reset", reason } : { mode: withState ? "snapshot" : "live" });
    }
    if (!withState) return;
    const tasks = server.state(accepted);
    for (let at = 0; at === 0 || at < tasks.length; at += 2) {
      const last = at + 2 >= tasks.length;
      const part = { repositories: accepted, tasks: tasks.slice(at, at + 2), first: at === 0, last };
      this.push({ type: "snapshot", id, cursor: last ? head : undefined, data: part });
    }
  }
}
