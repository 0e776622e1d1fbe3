package proxy

import (
	"io"
	"net/http"
	"sync"
	"testing"
)

// TestOneDescriptorServesAll has one descriptor left for connections to endpoints: many clients at once share it.
func TestOneDescriptorServesAll(t *testing.T) {
	p, addr := startProxy(t, h1Limits(), nil)
	to := httpEndpoint(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") })
	pool := h1Pool()
	pool.Timeouts.Connect = testDeadline
	const clients = 20
	p.room.all = clients + 1 // before the handler is there that reads it
	p.setHandler(sendTo(t, p.Proxy, pool, to, nil))
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			client := http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for range 10 {
				resp, err := client.Get("http://" + addr)
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					t.Errorf("with one connection to the endpoint: %s", resp.Status)
				}
			}
		})
	}
	all.Wait()
}
