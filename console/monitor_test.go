package console

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// The history stands behind the same door as the rest, and takes larger bodies.
func TestPrometheusIsGuarded(t *testing.T) {
	rig := newRig()
	rig.deps.Token = secret
	read := 0
	rig.deps.Prometheus = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := make([]byte, 4096)
		for {
			n, err := r.Body.Read(b)
			read += n
			if err != nil {
				break
			}
		}
	})
	rig.deps.Monitor = func() any { return map[string]string{"state": "running"} }
	h := New(rig.deps)
	for _, path := range []string{"/prometheus/api/v1/query", "/prometheus/api/v1/write", "/prometheus/-/ready", "/api/v1/monitor"} {
		if w := ask(h, "GET", path); w.Code != http.StatusUnauthorized {
			t.Errorf("%s without a token is answered with %d", path, w.Code)
		}
		if w := ask(h, "GET", path, "Authorization", "Bearer "+secret); w.Code != http.StatusOK {
			t.Errorf("%s with a token is answered with %d", path, w.Code)
		}
	}
	for _, c := range []struct {
		path string
		size int
		want int
	}{
		{"/prometheus/api/v1/query", 200 << 10, 200},
		{"/prometheus/api/v1/query", queryLimit + 1, 413},
		{"/prometheus/api/v1/write", 10 << 20, 200},
		{"/prometheus/api/v1/write", sampleLimit + 1, 413},
		{"/api/v1/reload", bodyLimit + 1, 413},
	} {
		read = 0
		r := httptest.NewRequest(http.MethodPost, c.path, strings.NewReader(strings.Repeat("x", c.size)))
		r.Header.Set("Authorization", "Bearer "+secret)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.want || c.want == 200 && read != c.size {
			t.Errorf("%s with %d bytes is answered with %d, %d bytes arrived", c.path, c.size, w.Code, read)
		}
	}
	if w := ask(New(newRig().deps), "GET", "/prometheus/api/v1/query"); w.Code != http.StatusNotFound || reason(w) != "not_offered" {
		t.Errorf("without a history the answer is %d %s", w.Code, reason(w))
	}
}
