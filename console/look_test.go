//go:build look

package console

import (
	"context"
	"net"
	"net/http"
	"os"
	"testing"
)

// These two are not checks: they show the console of a lively made-up node to whoever builds it.
//
//	EVENKEEL_LOOK=127.0.0.1:7700 go test -tags look -run TestLookAtPage -timeout 1h ./console
//	go test -tags look -c -o /tmp/look ./console && EVENKEEL_LOOK=127.0.0.1:7700 /tmp/look -test.run TestLookAtTop

func TestLookAtPage(t *testing.T) {
	f := newFakeNode()
	l, err := net.Listen("tcp", os.Getenv("EVENKEEL_LOOK"))
	if err != nil {
		t.Fatal(err)
	}
	s := Server(New(f.all(Deps{View: f.View, SetEndpoint: f.SetEndpoint, Shed: f.Shed, Curves: f.curves, Listen: l.Addr().String(), Token: os.Getenv("EVENKEEL_LOOK_TOKEN"),
		Reload: func() error { return nil }, Drain: func() {}, Ready: func() (bool, string) { return true, "" }})))
	if err := s.Serve(l); err != http.ErrServerClosed {
		t.Fatal(err)
	}
}

func TestLookAtTop(t *testing.T) {
	err := Top(context.Background(), TopOptions{Admin: os.Getenv("EVENKEEL_LOOK"), In: os.Stdin, Out: os.Stdout, Terminal: true})
	if err != nil {
		t.Fatal(err)
	}
}
