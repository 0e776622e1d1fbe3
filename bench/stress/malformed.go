package stress

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// headSeed starts the mutations, so that every run sends the same heads.
const headSeed = 20260301

// seed is a head of the parser's corpus and the status that the parser refuses it with; 0: it does not.
type seed struct {
	name   string
	head   []byte
	status int
}

// readSeeds reads scenarios: "# name", the head as Go strings, and "=> error STATUS …" or something else. Those with limits of their
// own are left out, since evenkeel runs with its defaults.
func readSeeds(text string) (seeds []seed, err error) {
	for block := range strings.SplitSeq(text, "\n\n") {
		s, usual := seed{}, true
		for l := range strings.Lines(block) {
			l = strings.TrimSuffix(l, "\n")
			switch {
			case strings.HasPrefix(l, "# "):
				s.name = l[2:]
			case strings.HasPrefix(l, "limits "):
				usual = false
			case strings.HasPrefix(l, `"`):
				piece, err := strconv.Unquote(l)
				if err != nil {
					return nil, fmt.Errorf("%s: %q: %w", s.name, l, err)
				}
				s.head = append(s.head, piece...)
			case strings.HasPrefix(l, "=> error "):
				s.status, _ = strconv.Atoi(strings.Fields(l)[2])
			}
		}
		if usual && len(s.head) > 0 {
			seeds = append(seeds, s)
		}
	}
	return seeds, nil
}

// malformed sends every seed as it is and asks for the parser's verdict; then it sends mutations, for which any answer is good
// as long as evenkeel gives one or ends the connection.
func malformed(ctx context.Context, t *trial) error {
	var seeds []seed
	for _, name := range []string{"smuggling.txt", "requests.txt"} {
		text, err := os.ReadFile(filepath.Join(t.lab.root, "wire", "testdata", name))
		if err != nil {
			return err
		}
		s, err := readSeeds(string(text))
		if err != nil {
			return err
		}
		seeds = append(seeds, s...)
	}
	refused := 0
	for _, s := range seeds {
		if s.status == 0 {
			continue
		}
		refused++
		a := send(t.web, 0, s.head)
		if a.status != s.status && (a.status != 0 || a.err != nil && !errors.Is(a.err, io.EOF)) {
			t.fail("%q was answered with %d (%v) and not with %d: %q", s.name, a.status, a.err, s.status, s.head)
		}
	}
	if refused == 0 {
		return errors.New("the corpus in wire/testdata has no heads that must be refused")
	}
	t.say("%d heads of the corpus must be refused", refused)
	n := pick(t.lab, int64(1_000_000), int64(5000))
	counts := answers{statuses: map[int]int{}}
	var next atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range 64 {
		wg.Go(func() {
			for i := next.Add(1); i <= n && ctx.Err() == nil; i = next.Add(1) {
				head := mutate(rand.New(rand.NewPCG(headSeed, uint64(i))), seeds)
				counts.add(head, send(t.web, int(i), head))
			}
		})
	}
	wg.Wait()
	t.say("%d mutations in %.0f s: %s", n, time.Since(began).Seconds(), &counts)
	if counts.example != "" {
		t.say("an example: %s", counts.example)
	}
	if counts.hung > 0 {
		t.fail("%d connections got neither an answer nor an end", counts.hung)
	}
	return nil
}

// answers counts what came for heads. Any goroutine may add.
type answers struct {
	mu                    sync.Mutex // guards the rest
	statuses              map[int]int
	closed, hung, through int
	example               string // the last that was strange
}

func (c *answers) add(head []byte, a answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case a.status != 0:
		c.statuses[a.status]++
	case errors.Is(a.err, os.ErrDeadlineExceeded):
		c.hung++
		c.example = fmt.Sprintf("neither answer nor end: %q", clip(head))
	default:
		c.closed++
	}
	if a.byEndpoint {
		c.through++
		c.example = fmt.Sprintf("passed on and refused by net/http: %q", clip(head))
	}
}

// String is for the time when nobody adds any more.
func (c *answers) String() string {
	var list []string
	for _, status := range slices.Sorted(maps.Keys(c.statuses)) {
		list = append(list, fmt.Sprintf("%d x %d", c.statuses[status], status))
	}
	return fmt.Sprintf("answered %s; %d closed without an answer, %d neither for %s; %d were passed on and refused by the endpoint",
		strings.Join(list, ", "), c.closed, c.hung, patience, c.through)
}

// answer is what came for a head.
type answer struct {
	status     int
	byEndpoint bool // net/http found the head malformed, which evenkeel had let through
	err        error
}

// send sends a head on a connection of its own and reads the first answer that is final.
func send(address string, i int, head []byte) (a answer) {
	c, err := dialFrom(address, i)
	if err != nil {
		return answer{err: err}
	}
	defer c.Close()
	_ = c.SetLinger(0)
	_ = c.SetDeadline(time.Now().Add(patience))
	_, _ = c.Write(head) // evenkeel may have refused it half-way; the answer counts
	_ = c.CloseWrite()
	in := bufio.NewReaderSize(c, 1024)
	for a.status < 200 {
		line, err := in.ReadString('\n')
		if err != nil {
			a.err = err
			return a
		}
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[0], "HTTP/1.") {
			a.status, _ = strconv.Atoi(f[1])
		}
	}
	if a.status == 400 {
		rest, _ := io.ReadAll(io.LimitReader(in, 2048))
		a.byEndpoint = !bytes.Contains(rest, []byte("reason")) && bytes.Contains(rest, []byte("400 Bad Request"))
	}
	return a
}

// mutate makes a head of the seeds that most likely is malformed.
func mutate(r *rand.Rand, seeds []seed) []byte {
	head := bytes.Clone(seeds[r.IntN(len(seeds))].head)
	for range 1 + r.IntN(4) {
		if len(head) == 0 {
			return []byte{0}
		}
		at := r.IntN(len(head))
		switch r.IntN(8) {
		case 0: // another byte
			head[at] = byte(r.IntN(256))
		case 1: // one bit
			head[at] ^= 1 << r.IntN(8)
		case 2: // a byte that means something
			head = insert(head, at, string("\r\n \t:,;\x00\x7f/?#%"[r.IntN(13)]))
		case 3: // cut off
			head = head[:at]
		case 4: // without a piece
			head = append(head[:at:at], head[min(len(head), at+1+r.IntN(8)):]...)
		case 5: // a piece twice
			head = insert(head, at, string(head[at:min(len(head), at+1+r.IntN(40))]))
		case 6: // a field that decides where the body ends
			head = insert(head, bytes.IndexByte(head, '\n')+1, field(r))
		default: // the start of one, the end of another
			other := seeds[r.IntN(len(seeds))].head
			head = append(head[:at:at], other[r.IntN(len(other)+1):]...)
		}
	}
	return head
}

// field is a header field that proxies and services have read differently.
func field(r *rand.Rand) string {
	list := [...]string{"Transfer-Encoding: chunked\r\n", "Transfer-Encoding:\tchunked\r\n", "Transfer-Encoding: chunked, identity\r\n", "Transfer-Encoding : chunked\r\n",
		"Content-Length: 5\r\n", "Content-Length: 05\r\n", "Content-Length: 18446744073709551621\r\n", "Host: b.example\r\n", "Connection: keep-alive, Host\r\n",
		"Expect: 100-continue\r\n", "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n", " folded: yes\r\n", "\r\nGET /smuggled HTTP/1.1\r\n", "X: " + strings.Repeat("y", 20000) + "\r\n",
		strings.Repeat("A: b\r\n", 150)}
	return list[r.IntN(len(list))]
}

func insert(b []byte, at int, s string) []byte {
	return append(append(b[:at:at], s...), b[at:]...)
}

func clip(b []byte) []byte { return b[:min(len(b), 300)] }
