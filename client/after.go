package client

import (
	"errors"
	"net/http"
	"time"

	"github.com/even-keel/evenkeel/contain/retry"
)

// RetryAfter is how long to wait, at the least, before a request like the one that ended with resp and err is worth making again: as the answer asks,
// or as a *Refused knows. 0: nobody says. Either may be nil, so that what http.Client returns can be handed over as it is.
func RetryAfter(resp *http.Response, err error) time.Duration {
	var refused *Refused
	switch {
	case errors.As(err, &refused):
		return refused.Wait
	case err != nil || resp == nil || resp.StatusCode < http.StatusBadRequest:
		return 0
	}
	return retry.After(resp.Header.Get("Retry-After"), time.Now())
}
