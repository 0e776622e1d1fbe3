package facts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of fetching key sets.
const (
	fetchTime  = 10 * time.Second // for one fetch
	fetchAgain = time.Second      // after the first failure; each further one doubles it, up to the time between refreshes
	fetchRest  = 5 * time.Second  // between fetches because of unknown keys: whoever makes up key names cannot flood the issuer
	fetchHops  = 3                // redirects
	fetchAwait = 2 * time.Second  // how long a request waits for the key that its token names; issuers answer within some 100 ms…
	fetchQueue = 256              // …and how many do
)

// keySet is the keys of one place: a URL, a file, or the site file itself. It outlives reloads of the site.
type keySet struct {
	where   string
	refresh atomic.Int64         // ns between fetches
	ring    atomic.Pointer[ring] // nil: no keys yet
	wants   chan struct{}        // a token named a key that is not here
	waiting atomic.Int32         // requests that wait for it
	tried   chan struct{}        // closed after the first fetch, however it went

	mu      sync.Mutex
	wrong   string    // of the last attempt; empty: it went well
	fresh   time.Time // when the keys were last known to be these
	fetches uint64
	asked   time.Time     // when a token last made keys be fetched
	coming  chan struct{} // closed when the fetch that was asked for, or is under way, has ended; nil: there is none
}

func newKeySet(where string) *keySet {
	return &keySet{where: where, wants: make(chan struct{}, 1), tried: make(chan struct{})}
}

// await waits until a fetch of the keys has ended, at most until a time, as a token names one that is not here: issuers sign with a new key as soon as they publish it. False: none
// has, as a token made them be fetched just before, or too many wait.
func (s *keySet) await(until time.Time) bool {
	if !s.remote() {
		return false
	}
	s.mu.Lock()
	if now := time.Now(); s.coming == nil && now.Sub(s.asked) >= fetchRest {
		s.asked, s.coming = now, make(chan struct{})
		s.wants <- struct{}{} // there is room: begin empties it before others can come here
	}
	coming := s.coming
	s.mu.Unlock()
	if coming == nil {
		return false
	}
	defer s.waiting.Add(-1)
	if s.waiting.Add(1) > fetchQueue {
		return false
	}
	late := time.NewTimer(time.Until(until))
	defer late.Stop()
	select {
	case <-coming:
		return true
	case <-late.C:
		return false
	}
}

// begin notes that a fetch begins. It is what all who ask until its end wait for.
func (s *keySet) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.wants:
	default:
	}
	if s.coming == nil {
		s.coming = make(chan struct{})
	}
}

// end notes that the fetch has ended.
func (s *keySet) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.coming)
	s.coming = nil
}

// use takes keys over, or keeps the old ones when there is an error, and tells when something is new.
func (s *keySet) use(keys []*signer, err error, now time.Time, log *slog.Logger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fetches++; s.fetches == 1 {
		defer close(s.tried) // once the keys are there: who waits for it uses them next
	}
	if err != nil {
		if text := err.Error(); text != s.wrong {
			s.wrong = text
			if s.remote() { // who reads files tells of them
				log.Warn("keys of tokens cannot be read, the old ones stay in use", slog.String("from", s.where), slog.Any("error", err))
			}
		}
		return
	}
	s.wrong, s.fresh = "", now
	if next, changed := s.ring.Load().next(keys); changed {
		s.ring.Store(next)
		log.Info("keys of tokens are new", slog.String("from", s.where), slog.Int("keys", len(keys)))
	}
}

// keep fetches the set now, after every refresh, and when a token names an unknown key, until ctx ends.
func (s *keySet) keep(ctx context.Context, client *http.Client, log *slog.Logger) {
	for pause := fetchAgain; ; {
		s.begin()
		keys, err := fetch(ctx, client, s.where)
		if ctx.Err() == nil {
			s.use(keys, err, time.Now(), log)
		}
		s.end()
		if ctx.Err() != nil {
			return
		}
		refresh := time.Duration(s.refresh.Load())
		wait := refresh
		if err != nil {
			wait = min(pause, refresh)
			pause = min(2*pause, refresh)
		} else {
			pause = fetchAgain
		}
		// Nodes that started together do not ask together for ever.
		if !s.rest(ctx, wait-time.Duration(rand.Int64N(int64(wait)/10+1))) {
			return
		}
	}
}

// rest waits until the next fetch is due. False: ctx ended.
func (s *keySet) rest(ctx context.Context, wait time.Duration) bool {
	due := time.NewTimer(wait)
	defer due.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-due.C:
	case <-s.wants:
	}
	return true
}

// fetch gets a key set from a URL.
func fetch(ctx context.Context, client *http.Client, url string) ([]*signer, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", url, resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxKeyBytes+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxKeyBytes {
		return nil, fmt.Errorf("%s answered with more than %d bytes", url, maxKeyBytes)
	}
	return parseSet(text)
}

// newClient makes the client of all fetches. It follows no redirect to a place without TLS.
func newClient() *http.Client {
	tr := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: fetchTime, ResponseHeaderTimeout: fetchTime,
		MaxResponseHeaderBytes: 64 << 10, DisableKeepAlives: true, ForceAttemptHTTP2: true}
	return &http.Client{Transport: tr, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		switch {
		case len(via) > fetchHops:
			return errors.New("too many redirects")
		case r.URL.Scheme != "https" && via[0].URL.Scheme == "https":
			return fmt.Errorf("a redirect leads to %s, which has no TLS", r.URL.Redacted())
		}
		return nil
	}}
}
