package history

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestPaceTellsAnswersApart: what is refused is no failure, what is not an answer is one, and answers are read whole.
func TestPaceTellsAnswersApart(t *testing.T) {
	var status int
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status == 0 { // the connection breaks
			panic(http.ErrAbortHandler)
		}
		n, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		if err != nil && r.URL.Path != "/none" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.WriteHeader(status)
		fmt.Fprint(w, strings.Repeat("x", n))
	}))
	defer s.Close()
	for _, c := range []struct {
		status int
		want   paced
	}{{200, paced{Answered: 1}}, {404, paced{Answered: 1}}, {503, paced{Refused: 1}}, {429, paced{Refused: 1}}, {500, paced{Failed: 1}}, {0, paced{Failed: 1}}} {
		status = c.status
		p := &pacer{address: s.Listener.Addr().String(), at: time.Now(), every: time.Hour}
		for range 2 * paceSizes { // one connection for all of them, as long as it holds
			if got, err := p.ask(); got != c.status || (err != nil) != (c.status == 0) {
				t.Errorf("status %d: %d, %v", c.status, got, err)
			}
			if status == 0 {
				p.close()
			}
		}
		var sum paced
		sum.add(paced{Answered: 2, Failed: 1, Detail: "broken"})
		sum.add(c.want)
		if sum.Answered != 2+c.want.Answered || sum.Failed != 1+c.want.Failed || sum.Refused != c.want.Refused || sum.Detail != "broken" {
			t.Errorf("%+v", sum)
		}
		p.close()
	}
}
