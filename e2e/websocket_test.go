package e2e_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// echo is a WebSocket server: it says everything again; "close CODE" it closes with that code.
func echo(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/hello" {
		fmt.Fprint(w, "hello")
		return
	}
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"echo"}})
	if err != nil {
		return
	}
	defer c.CloseNow()
	c.SetReadLimit(32 << 20)
	for {
		kind, text, err := c.Read(r.Context())
		if err != nil {
			return
		}
		var code int
		if n, _ := fmt.Sscanf(string(text[:min(len(text), 20)]), "close %d", &code); n == 1 {
			_ = c.Close(websocket.StatusCode(code), "as you wish")
			return
		}
		if c.Write(r.Context(), kind, text) != nil {
			return
		}
	}
}

// TestWebSocket talks to an echo server through plain and TLS listeners, while an HTTP/2 client asks for pages.
func TestWebSocket(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.pair("web", "localhost", "127.0.0.1")
	g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}, secure: {listen: "127.0.0.1:0", tls: {certificates: [{cert: %q, key: %q}]}}}
pools: {echo: {endpoints: [%q]}}
`, cert, key, service(t, echo)))
	var beside sync.WaitGroup
	defer beside.Wait()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	for _, f := range fronts(t, g, a) {
		if f.proto == "HTTP/2.0" {
			beside.Go(func() {
				for ctx.Err() == nil {
					if _, body := f.ask(t, f.request(t, "GET", "/hello", nil)); body != "hello" {
						t.Errorf("beside: %q", body)
					}
				}
			})
		}
	}
	for _, url := range []string{"ws://" + g.at["web"], "wss://" + g.at["secure"]} {
		t.Run(url[:3], func(t *testing.T) {
			talk(t, url, &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.pool}}})
		})
	}
}

func talk(t *testing.T, url string, client *http.Client) {
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	dial := func() *websocket.Conn {
		t.Helper()
		c, _, err := websocket.Dial(ctx, url+"/talk?x=1", &websocket.DialOptions{HTTPClient: client, Subprotocols: []string{"echo"}})
		if err != nil {
			t.Fatal(err)
		}
		if c.Subprotocol() != "echo" {
			t.Errorf("the sub-protocol is %q", c.Subprotocol())
		}
		c.SetReadLimit(32 << 20)
		t.Cleanup(func() { _ = c.CloseNow() })
		return c
	}
	c := dial()
	for _, m := range []struct {
		kind websocket.MessageType
		text string
	}{
		{websocket.MessageText, "hello"}, {websocket.MessageText, ""}, {websocket.MessageText, "\u263a"}, {websocket.MessageBinary, "\x00\xff\r\n\r\n"},
		{websocket.MessageBinary, strings.Repeat("large", 2_000_000)}, {websocket.MessageText, strings.Repeat("long", 20_000)},
	} {
		said := make(chan error, 1) // the echo of a large message comes while it is still sent
		go func() { said <- c.Write(ctx, m.kind, []byte(m.text)) }()
		kind, text, err := c.Read(ctx)
		if err := errors.Join(err, <-said); err != nil || kind != m.kind || string(text) != m.text {
			t.Fatalf("%.20q came back as %.20q (%d of %d bytes), %v, %v", m.text, text, len(text), len(m.text), kind, err)
		}
	}
	// Idle for a moment, longer than any wait of the relay's own, and there still.
	<-time.After(1500 * time.Millisecond)
	if err := c.Write(ctx, websocket.MessageText, []byte("still there?")); err != nil {
		t.Fatal(err)
	}
	if _, text, err := c.Read(ctx); err != nil || !bytes.Equal(text, []byte("still there?")) {
		t.Fatalf("after idling: %q, %v", text, err)
	}
	if err := c.Close(websocket.StatusNormalClosure, "bye"); err != nil {
		t.Errorf("closing in order: %v", err)
	}
	c = dial()
	if err := c.Write(ctx, websocket.MessageText, []byte("close 4321")); err != nil {
		t.Fatal(err)
	}
	_, _, err := c.Read(ctx)
	var closed websocket.CloseError
	if !errors.As(err, &closed) || closed.Code != 4321 || closed.Reason != "as you wish" {
		t.Errorf("closed by the server with 4321: %v", err)
	}
}
