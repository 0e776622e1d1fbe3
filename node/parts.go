package node

import (
	"context"
	"net"
	"os"

	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// poolPart is a pool as the node runs it. Tests put a pool without sockets here.
type poolPart interface {
	exchange.Picker
	Run(ctx context.Context) error
	Update(cfg *site.Pool) error
	SetState(address, state string) error
	Ready() bool
	view() console.Pool
}

// frontPart is the proxy as the node runs it.
type frontPart interface {
	Update(listeners map[string]*site.Listener, handlers map[string]exchange.Handler) error
	Run(ctx context.Context) error
	Drain(ctx context.Context) error
	Files() (map[string][]*os.File, error)
	Addr(name string) net.Addr
	views() map[string]console.Listener // by name: what the listeners themselves know
}

// runningPool is a pool with the task that runs it.
type runningPool struct {
	poolPart
	task *task
}
