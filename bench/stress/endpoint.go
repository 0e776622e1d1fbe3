package stress

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Bounds of what an endpoint is asked for.
const (
	maxBody = 16 << 20
	maxBig  = 1 << 30

	sleptPlaces = 20
	sleptTime   = 50 * time.Millisecond
	sleptRate   = int(time.Second/sleptTime) * sleptPlaces
)

// Serve is a small service, as people write them: net/http with its defaults. It returns when it fails.
//
//	/healthz       ok
//	/work?ms=N     works N milliseconds, then as below
//	/slept         works 50 ms, 20 at once and the others in turn: 400 each second, whatever the machine
//	/N             N bytes
//	/big?bytes=N   N bytes, streamed
//	anything else  reads the body and answers with the request's X-Id and the body's size
func Serve(address string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/big", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.ParseInt(r.URL.Query().Get("bytes"), 10, 64)
		n = min(max(n, 0), maxBig)
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		piece := strings.Repeat("b", 64<<10)
		for n > 0 {
			k, err := io.WriteString(w, piece[:min(n, int64(len(piece)))])
			if err != nil {
				return
			}
			n -= int64(k)
		}
	})
	echo := func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, io.LimitReader(r.Body, maxBody))
		if err != nil {
			return
		}
		fmt.Fprintf(w, "id=%s body=%d\n", r.Header.Get("X-Id"), n)
	}
	mux.HandleFunc("/work", func(w http.ResponseWriter, r *http.Request) {
		ms, _ := strconv.Atoi(r.URL.Query().Get("ms"))
		t := time.NewTimer(time.Duration(min(max(ms, 0), 60_000)) * time.Millisecond)
		defer t.Stop()
		select {
		case <-t.C:
			echo(w, r)
		case <-r.Context().Done():
		}
	})
	places := make(chan struct{}, sleptPlaces)
	mux.HandleFunc("/slept/", func(w http.ResponseWriter, r *http.Request) { // as a service with a pool of threads, it works for clients that left too
		places <- struct{}{}
		time.Sleep(sleptTime)
		<-places
		echo(w, r)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if n, err := strconv.Atoi(r.URL.Path[1:]); err == nil && n >= 0 && n <= 1<<20 {
			_, _ = io.WriteString(w, strings.Repeat("x", n))
			return
		}
		echo(w, r)
	})
	return http.ListenAndServe(address, mux)
}
