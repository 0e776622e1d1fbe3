package proxy

import (
	"testing"

	"github.com/even-keel/evenkeel/wire"
)

// A head goes back to a pool when its exchange ends, and the answer of a client's work stays: neither may write into the other's fields.
func TestH2HeadsShareNothing(t *testing.T) {
	f := &h2Fields{list: make([]wire.Field, 0, 8)}
	f.list = append(f.list, wire.Field{ID: idStatus, Value: []byte("200")}, wire.Field{Name: []byte("content-type"), Value: []byte("text/plain")})
	var r wire.Response
	f.view(&r)
	if r.Status != 200 || len(r.Fields) != 1 || string(r.Fields[0].Value) != "text/plain" {
		t.Fatalf("status %d, fields %v", r.Status, r.Fields)
	}
	r.Reset()
	if n, err := r.Parse([]byte("HTTP/1.1 200 OK\r\nServer: another\r\n\r\n"), wire.Limits{HeadBytes: 1000, Fields: 10}); n == 0 || err != nil {
		t.Fatal(n, err)
	}
	if got := string(f.list[1].Value); got != "text/plain" {
		t.Errorf("the next answer of the same client wrote %q into the head of another exchange", got)
	}
}
