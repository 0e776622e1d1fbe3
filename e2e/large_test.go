package e2e_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	hugeSize    = 2 << 30
	residentMax = 64 << 20 // with the history of metrics, while a body of any size streams through
)

// resident is the most memory that a process ever had in use, in bytes.
func resident(t testing.TB, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// zeros gives n bytes.
type zeros struct{ left int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), z.left)
	clear(p[:n])
	z.left -= n
	return int(n), nil
}

// drain reads to the end with a large buffer and counts.
func drain(r io.Reader) (n int64, err error) {
	buf := make([]byte, 256<<10)
	for {
		m, err := r.Read(buf)
		n += int64(m)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// TestHuge streams 2 GB up and 2 GB down in little memory, with HTTP/1.1 and HTTP/2 in front. TestSlowReader sees that HTTP/2 behind keeps no more.
func TestHuge(t *testing.T) {
	huge := service(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "PUT" {
			n, err := drain(r.Body)
			fmt.Fprint(w, n, err)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(hugeSize))
		part := make([]byte, 256<<10)
		for range hugeSize / len(part) {
			if _, err := w.Write(part); err != nil {
				return
			}
		}
	})
	for _, way := range []struct{ front, to string }{{"h1", "http://"}, {"h2c", "http://"}} {
		t.Run(way.front+" to "+way.to[:len(way.to)-3], func(t *testing.T) {
			g := run(t, "--listen", "127.0.0.1:0", "--to", way.to+huge)
			for _, f := range fronts(t, g, nil) {
				if f.name != way.front {
					continue
				}
				t.Run("up", func(t *testing.T) {
					began := time.Now()
					r := f.request(t, "PUT", "/", &zeros{hugeSize})
					r.ContentLength = hugeSize
					if _, body := f.ask(t, r); body != strconv.Itoa(hugeSize)+"<nil>" && body != strconv.Itoa(hugeSize)+" <nil>" {
						t.Errorf("the endpoint took %s", body)
					}
					told(t, g, began)
				})
				t.Run("down", func(t *testing.T) {
					began := time.Now()
					resp, err := f.client.Do(f.request(t, "GET", "/", nil))
					if err != nil {
						t.Fatal(err)
					}
					defer resp.Body.Close()
					if n, err := drain(resp.Body); n != hugeSize || err != nil {
						t.Errorf("the client took %d bytes, %v", n, err)
					}
					told(t, g, began)
				})
			}
		})
	}
}

// told logs what it cost, and fails when it cost too much memory.
func told(t *testing.T, g *gateway, began time.Time) {
	t.Helper()
	took, most := time.Since(began), resident(t, g.cmd.Process.Pid)
	t.Logf("2 GB in %.1f s, %.0f MB/s, at most %.1f MB resident", took.Seconds(), hugeSize/took.Seconds()/1e6, float64(most)/(1<<20))
	if most > residentMax {
		t.Errorf("resident memory reached %.1f MB, allowed are %d", float64(most)/(1<<20), residentMax>>20)
	}
}

// TestSlowReader has a client that stands still while 64 MB wait for it: evenkeel holds its endpoint back and not the bytes.
func TestSlowReader(t *testing.T) {
	wrote := make(chan int64, 4)
	address := service(t, func(w http.ResponseWriter, _ *http.Request) {
		part, n := bytes.Repeat([]byte{'x'}, 64<<10), int64(0)
		for range 1024 {
			m, err := w.Write(part)
			if n += int64(m); err != nil {
				break
			}
		}
		wrote <- n
	})
	for _, to := range []string{"http://", "h2c://"} {
		g := run(t, "--listen", "127.0.0.1:0", "--to", to+address)
		for _, f := range fronts(t, g, nil) {
			resp, err := f.client.Do(f.request(t, "GET", "/", nil))
			if err != nil {
				t.Fatal(err)
			}
			select {
			case n := <-wrote:
				t.Errorf("%s to %s: the endpoint wrote %d bytes to a client that reads none", f.name, to, n)
			case <-time.After(500 * time.Millisecond):
			}
			if most := resident(t, g.cmd.Process.Pid); most > residentMax {
				t.Errorf("%s to %s: resident memory reached %d MB", f.name, to, most>>20)
			}
			resp.Body.Close()
			if n := <-wrote; n == 64<<20 {
				t.Errorf("%s to %s: the endpoint could write everything to a client that left", f.name, to)
			}
		}
	}
}
