package proxy

import (
	"context"
	"errors"
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

var errNoDescriptors = errors.New("evenkeel has no descriptors left for connections to endpoints")

// awaitLook is how often a waiting exchange looks by itself, should another one have taken the connection that was
// announced, or none be announced because all were closed.
const awaitLook = 20 * time.Millisecond

// await waits for a connection that another exchange gives back, for as long as connecting may take. It is the way
// out when the process has no descriptors left: clients that were let in are served one after the
// other by the connections there are, where refusing them would answer 503 to people who did nothing wrong.
func (l *Link) await(ctx context.Context, x *exchange.Exchange) *h1Back {
	ctx, stop := context.WithTimeout(ctx, l.up.cfg().Timeouts.Connect)
	defer stop()
	l.waiting.Add(1)
	defer l.waiting.Add(-1)
	look := time.NewTicker(awaitLook)
	defer look.Stop()
	for {
		if b := l.take(x.Shard, !x.Replayable); b != nil {
			b.shard = x.Shard
			return b
		}
		select {
		case <-l.freed:
		case <-look.C:
		case <-ctx.Done():
			return nil
		}
	}
}
