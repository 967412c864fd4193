// uWebSockets with its own topics: what it does for a message is its native code, but for the JSON.
const { App, DISABLED } = require('uwebsockets');

function publish(app, answer) {
  const parts = [];
  answer.onAborted(() => parts.length = 0);
  answer.onData((part, isLast) => {
    // The memory of a part is taken back after this call.
    parts.push(Buffer.from(part.slice(0)));
    if (!isLast) return;
    const task = JSON.parse(Buffer.concat(parts));
    const event = { type: 'task.created', timestamp: new Date().toISOString(), data: { task } };
    app.publish(task.repository, JSON.stringify(event));
    answer.writeStatus('204 No Content').endWithoutBody(0);
  });
}

const app = App();
app.ws('/ws', {
  compression: DISABLED,
  idleTimeout: 60,
  // Far more than ever waits: nobody is to lose a message.
  maxBackpressure: 256 << 20,
  message(socket, frame) {
    const { data } = JSON.parse(Buffer.from(frame));
    data.repositories.forEach((repository) => socket.subscribe(repository));
  },
});
app.post('/publish', (answer) => publish(app, answer));
app.listen('127.0.0.1', Number(process.argv[2]), (listening) => process.exitCode = listening ? 0 : 1);
