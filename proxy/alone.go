package proxy

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// errAlone ends the answer of an exchange that has no client and whose tap let it pass.
var errAlone = errors.New("nobody waits for this answer")

// Alone makes x an exchange that no client waits for: its request has no body, and its answer goes to its tap or nowhere. cancel ends
// it early; any goroutine may call it, also after x has ended.
func Alone(x *exchange.Exchange) (cancel func()) {
	f := &alone{}
	f.scr.bytes, f.scr.fields = make([]byte, 0, 1<<10), make([]wire.Field, 0, 32)
	x.Front, x.Replayable = f, true
	return f.cancel
}

// alone is the front of such an exchange.
type alone struct {
	scr scratch

	mu      sync.Mutex
	watched back
	ended   bool
}

// cancel ends the attempt under way, and later ones as they start.
func (f *alone) cancel() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	if f.watched != nil {
		f.watched.cancel()
	}
}

// watchCancel holds the lock while b.cancel runs, so that after watchCancel(nil) it is never called.
func (f *alone) watchCancel(b back) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watched = b
	if b != nil && f.ended {
		b.cancel()
	}
}

func (f *alone) pending() ([]byte, bool)                                  { return nil, true }
func (f *alone) peek(int, time.Time) ([]byte, bool, error)                { return nil, true, nil }
func (f *alone) readBody() ([]byte, error)                                { return nil, io.EOF }
func (f *alone) requestTrailers() []wire.Field                            { return nil }
func (f *alone) stopBody()                                                {}
func (f *alone) bodyRead() bool                                           { return true }
func (f *alone) date() []byte                                             { return nil }
func (f *alone) scratch() *scratch                                        { return &f.scr }
func (f *alone) inform(*wire.Response) error                              { return nil }
func (f *alone) retract() bool                                            { return false }
func (f *alone) endBy(time.Time)                                          {}
func (f *alone) flush() error                                             { return errAlone }
func (f *alone) write([]byte, bool) error                                 { return errAlone }
func (f *alone) end([]wire.Field) error                                   { return errAlone }
func (f *alone) abort()                                                   {}
func (f *alone) begin(*exchange.Exchange, int, []wire.Field, int64) error { return errAlone }

var _ front = (*alone)(nil)
