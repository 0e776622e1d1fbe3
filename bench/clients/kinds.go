package clients

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafehttp"
	"github.com/failsafe-go/failsafe-go/timeout"

	"github.com/even-keel/evenkeel/client"
)

// How long people and programs wait. They are the same for all clients.
const (
	attemptFor = time.Second     // one attempt
	patience   = 3 * time.Second // a request with all its attempts; an answer after it is of no use
)

// ask asks once, as often as the client thinks right, and returns nil when a good answer came.
type ask func(ctx context.Context, url string) error

// kind is one way to make requests.
type kind struct {
	name, doc string
	make      func(base http.RoundTripper, rnd *rand.Rand) ask // one client of the many
}

// ours is what is judged.
const ours = "evenkeel"

// kinds are those that can be compared.
func kinds() []kind {
	return []kind{
		{ours, "package client with its defaults", func(base http.RoundTripper, rnd *rand.Rand) ask {
			return asking(&http.Client{Transport: client.New(client.Options{Base: base, AttemptTimeout: attemptFor, Random: lockedRandom(rnd)})})
		}},
		{"plain", "net/http with a timeout, never again", func(base http.RoundTripper, _ *rand.Rand) ask {
			return asking(&http.Client{Transport: base, Timeout: attemptFor})
		}},
		{"retry-at-once", "net/http with a timeout, up to two more attempts at once", func(base http.RoundTripper, _ *rand.Rand) ask {
			once := asking(&http.Client{Transport: base, Timeout: attemptFor})
			return func(ctx context.Context, url string) (err error) {
				for range 3 {
					if err = once(ctx, url); err == nil || ctx.Err() != nil {
						break
					}
				}
				return err
			}
		}},
		{"backoff", "cenkalti/backoff v5: Retry with the exponential backoff of its example, up to three attempts", func(base http.RoundTripper, _ *rand.Rand) ask {
			once := asking(&http.Client{Transport: base, Timeout: attemptFor})
			return func(ctx context.Context, url string) error {
				_, err := backoff.Retry(ctx, func() (struct{}, error) { return struct{}{}, once(ctx, url) },
					backoff.WithBackOff(backoff.NewExponentialBackOff()), backoff.WithMaxTries(3))
				return err
			}
		}},
		{"failsafe", "failsafe-go: retries (1 s to 30 s, 3 at most), breaker (5 failures, 1 minute, 2 successes) and timeout, as its documents have them", func(base http.RoundTripper, _ *rand.Rand) ask {
			retries := failsafehttp.NewRetryPolicyBuilder().WithBackoff(time.Second, 30*time.Second).WithMaxRetries(3).Build()
			breaker := circuitbreaker.NewBuilder[*http.Response]().HandleIf(func(r *http.Response, err error) bool {
				return err != nil || r.StatusCode == http.StatusTooManyRequests || r.StatusCode >= 500
			}).WithFailureThreshold(5).WithDelay(time.Minute).WithSuccessThreshold(2).Build()
			return asking(&http.Client{Transport: failsafehttp.NewRoundTripper(base, retries, breaker, timeout.New[*http.Response](attemptFor))})
		}},
	}
}

// errStatus is an answer that is no good one.
var errStatus = errors.New("not a good answer")

// asking makes an HTTP client ask.
func asking(c *http.Client) ask {
	return func(ctx context.Context, url string) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := c.Do(r)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%w: %d", errStatus, resp.StatusCode)
		}
		return nil
	}
}

// lockedRandom makes a source fit for many goroutines.
func lockedRandom(rnd *rand.Rand) func() float64 {
	lock := make(chan struct{}, 1)
	return func() float64 {
		lock <- struct{}{}
		defer func() { <-lock }()
		return rnd.Float64()
	}
}
