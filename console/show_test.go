package console

import (
	"net"
	"net/http"
	"os"
	"testing"
)

// TestServeFake serves the lively node at EVENKEEL_CONSOLE_LOOK until the test's time ends, so that page and terminal view can be looked at.
func TestServeFake(t *testing.T) {
	address := os.Getenv("EVENKEEL_CONSOLE_LOOK")
	if address == "" {
		t.Skip("EVENKEEL_CONSOLE_LOOK names no address: nothing to look at was asked for")
	}
	f := newFakeNode()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := Server(New(Deps{View: f.View, SetEndpoint: f.SetEndpoint, Listen: address, Token: os.Getenv("EVENKEEL_CONSOLE_TOKEN"),
		Reload: func() error { return nil }, Drain: func() {}, Ready: func() (bool, string) { return true, "" }}))
	if err := s.Serve(l); err != http.ErrServerClosed {
		t.Fatal(err)
	}
}
