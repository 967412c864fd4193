// The hub that gorilla/websocket's chat example has made known, with repositories: one goroutine knows the clients,
// each of which has a channel of 256 events and a goroutine to read and one to write. Who lets it fill up is closed.
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/gorilla/websocket"
)

type task struct {
	Repository  string `json:"repository"`
	Title       string `json:"title"`
	Description string `json:"description"`
}

type event struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      struct {
		Task task `json:"task"`
	} `json:"data"`
}

type request struct {
	Data struct {
		Repositories []string `json:"repositories"`
	} `json:"data"`
}

type client struct {
	socket *websocket.Conn
	events chan *event
	wanted map[string]bool // the hub's
}

type wish struct {
	client       *client
	repositories []string
}

type hub struct {
	join, leave chan *client
	wishes      chan wish
	events      chan *event
}

func (h *hub) run() {
	clients := map[*client]bool{}
	drop := func(c *client) {
		if clients[c] {
			delete(clients, c)
			close(c.events)
		}
	}
	for {
		select {
		case c := <-h.join:
			clients[c] = true
		case c := <-h.leave:
			drop(c)
		case w := <-h.wishes:
			for _, repository := range w.repositories {
				w.client.wanted[repository] = true
			}
		case e := <-h.events:
			for c := range clients {
				if !c.wanted[e.Data.Task.Repository] {
					continue
				}
				select {
				case c.events <- e:
				default:
					drop(c)
				}
			}
		}
	}
}

func (c *client) read(h *hub) {
	defer func() { h.leave <- c }()
	for {
		var r request
		if c.socket.ReadJSON(&r) != nil {
			return
		}
		h.wishes <- wish{c, r.Data.Repositories}
	}
}

func (c *client) write() {
	defer c.socket.Close()
	heartbeat := time.NewTicker(20 * time.Second)
	defer heartbeat.Stop()
	for {
		var failed error
		select {
		case e, open := <-c.events:
			if !open {
				c.socket.WriteMessage(websocket.CloseMessage, nil)
				return
			}
			c.socket.SetWriteDeadline(time.Now().Add(10 * time.Second))
			failed = c.socket.WriteJSON(e)
		case <-heartbeat.C:
			c.socket.SetWriteDeadline(time.Now().Add(10 * time.Second))
			failed = c.socket.WriteMessage(websocket.PingMessage, nil)
		}
		if failed != nil {
			return
		}
	}
}

func main() {
	h := &hub{make(chan *client), make(chan *client), make(chan wish), make(chan *event, 256)}
	go h.run()
	upgrader := websocket.Upgrader{ReadBufferSize: 1024, WriteBufferSize: 1024}
	http.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		socket, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		c := &client{socket, make(chan *event, 256), map[string]bool{}}
		h.join <- c
		go c.read(h)
		go c.write()
	})
	http.HandleFunc("/publish", func(w http.ResponseWriter, r *http.Request) {
		e := &event{Type: "task.created", Timestamp: time.Now()}
		if json.NewDecoder(r.Body).Decode(&e.Data.Task) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		h.events <- e
		w.WriteHeader(http.StatusNoContent)
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
