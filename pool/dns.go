package pool

import (
	"context"
	"github.com/even-keel/evenkeel/site"
	"time"
)

const lookupTimeout = 5 * time.Second

func newDNSSource(c *site.DiscoverDNS) source { return nil }

type fileSource struct{ path string }

func (f *fileSource) find(ctx context.Context) ([]site.Endpoint, time.Duration, error) {
	return nil, 0, nil
}
