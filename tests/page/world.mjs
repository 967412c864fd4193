// A clock that is moved by hand, a network that does as it is told, and a server that keeps a log: all plain data.

import { readFileSync } from "node:fs";

const FILE = new URL("../../server/task-api/page/taskwatch.js", import.meta.url);

// The browser's events.
const page = new EventTarget();
for (const name of ["addEventListener", "dispatchEvent"]) globalThis[name] = page[name].bind(page);

/** The module, with parts of its text replaced. */
export async function load(...changes) {
  let source = readFileSync(FILE, "utf8");
  for (const [from, to] of changes) {
    if (!source.includes(from)) throw new Error(`no such text in taskwatch.js: ${from}`);
    source = source.replace(from, to);
  }
  return import(`data:text/javascript;base64,${Buffer.from(source).toString("base64")}`);
}

/** Random numbers that a seed decides (mulberry32). */
export function dice(seed) {
  const random = () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  random.below = (limit) => Math.floor(random() * limit);
  random.of = (list) => list[random.below(list.length)];
  return random;
}

/** Lets everything happen that waits for nothing but its turn. */
export const settle = () => new Promise((resolve) => setImmediate(resolve));

/** Time and sockets. `sockets` are those that were made, the newest last. */
export class World {
  time = 1;
  timers = new Map();
  sockets = [];
  lastTimer = 0;

  /** What `subscribe` takes in place of the browser. */
  options(more = {}) {
    const world = this;
    class Socket {
      constructor(url, protocols) {
        Object.assign(this, { url, protocols, sent: [], isOpen: false, isClosed: false });
        world.sockets.push(this);
      }
      send(text) {
        if (!this.isOpen) throw new Error("InvalidStateError");
        if (this.isClosed) return;
        this.sent.push(JSON.parse(text));
        this.heard?.(this.sent.at(-1));
      }
      close() {
        this.isClosed = true;
      }
      // What the network does.
      open() {
        this.isOpen = true;
        this.onopen();
      }
      text(frame) {
        this.onmessage({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
      }
      end(code = 1006, reason = "") {
        this.isClosed = true;
        this.onclose({ code, reason });
      }
    }
    return {
      url: "http://server:1",
      WebSocket: Socket,
      now: () => this.time,
      random: () => 0.5,
      setTimeout: (run, ms, ...values) => {
        this.timers.set(++this.lastTimer, { at: this.time + ms, run: () => run(...values) });
        return this.lastTimer;
      },
      clearTimeout: (id) => this.timers.delete(id),
      ...more,
    };
  }

  get socket() {
    return this.sockets.at(-1);
  }

  /** Moves the clock, and runs what becomes due on the way. */
  async advance(ms) {
    const end = this.time + ms;
    await settle();
    for (;;) {
      const due = [...this.timers].filter(([, { at }]) => at <= end).sort(([, a], [, b]) => a.at - b.at)[0];
      if (!due) break;
      this.timers.delete(due[0]);
      this.time = Math.max(this.time, due[1].at);
      due[1].run();
      await settle();
    }
    this.time = end;
  }
}

/** Reads a stream into a list, until it is told to pause. */
export class Reader {
  error = null;
  isDone = false;
  isPaused = false;

  constructor(stream, updates = []) {
    this.updates = updates;
    this.stream = stream;
    this.read();
  }
  async read() {
    try {
      for (;;) {
        while (this.isPaused) await new Promise((resolve) => (this.goOn = resolve));
        const { done, value } = await this.stream.next();
        if (done) break;
        this.updates.push(value);
      }
    } catch (error) {
      this.error = error;
    }
    this.isDone = true;
  }
  resume() {
    this.isPaused = false;
    this.goOn?.();
  }
  types() {
    return this.updates.map((it) => it.type);
  }
  events() {
    return this.updates.filter((it) => it.type === "event").map((it) => it.cursor);
  }
}
