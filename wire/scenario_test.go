package wire

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what the parsers say into the scenario files")

// usual are the limits of the site file's defaults.
var usual = Limits{HeadBytes: 16 << 10, Fields: 100}

// A scenario is a block of a file in testdata:
//
//	# name
//	limits 64 2            (head bytes and fields, when not the usual)
//	"GET / HTTP/1.1\r\n"   (input, as Go strings, joined)
//	=> what comes of it
type scenario struct {
	name  string
	head  []string // the lines before the result
	lim   Limits
	input []byte
	want  []string
}

// runScenarios compares what judge says of every scenario in the file with what the file says.
func runScenarios(t *testing.T, file string, judge func(in []byte, lim Limits) string) {
	path := "testdata/" + file
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, s := range readScenarios(t, string(text)) {
		got := strings.Split(strings.TrimRight(judge(s.input, s.lim), "\n"), "\n")
		t.Run(s.name, func(t *testing.T) {
			if g, w := strings.Join(got, "\n"), strings.Join(s.want, "\n"); g != w && !*update {
				t.Errorf("%s: %s\n%q\ngot:\n%s\nwant:\n%s", path, s.name, s.input, g, w)
			}
		})
		fmt.Fprintf(&out, "# %s\n", s.name)
		for _, line := range s.head {
			fmt.Fprintln(&out, line)
		}
		for _, line := range got {
			fmt.Fprintln(&out, "=> "+line)
		}
		fmt.Fprintln(&out)
	}
	if *update {
		if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func readScenarios(t testing.TB, text string) (all []*scenario) {
	var s *scenario
	for i, line := range strings.Split(text, "\n") {
		switch {
		case line == "":
		case strings.HasPrefix(line, "# "):
			s = &scenario{name: line[2:], lim: usual}
			all = append(all, s)
		case s == nil:
			t.Fatalf("line %d: text before the first scenario", i+1)
		case strings.HasPrefix(line, "=> "):
			s.want = append(s.want, line[3:])
		case strings.HasPrefix(line, "limits "):
			if _, err := fmt.Sscanf(line, "limits %d %d", &s.lim.HeadBytes, &s.lim.Fields); err != nil {
				t.Fatalf("line %d: %v", i+1, err)
			}
			s.head = append(s.head, line)
		default:
			in, err := strconv.Unquote(line)
			if err != nil {
				t.Fatalf("line %d: %q: %v", i+1, line, err)
			}
			s.input = append(s.input, in...)
			s.head = append(s.head, line)
		}
	}
	return all
}

// seeds are the inputs of a scenario file.
func seeds(t testing.TB, files ...string) (all [][]byte) {
	for _, file := range files {
		text, err := os.ReadFile("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range readScenarios(t, string(text)) {
			all = append(all, s.input)
		}
	}
	return all
}

func showError(err error) string {
	var e *Error
	if !errors.As(err, &e) {
		return "strange error: " + err.Error()
	}
	return fmt.Sprintf("error %d %s: %s", e.Status, e.Reason, e.Error())
}

func showFields(b *strings.Builder, fields []Field) {
	for _, f := range fields {
		known := ""
		if f.ID != Other {
			known = fmt.Sprintf(" (%d)", f.ID)
		}
		fmt.Fprintf(b, "%s: %q%s\n", f.Name, f.Value, known)
	}
}

func showRequest(r *Request, n int, err error) string {
	if err != nil {
		return showError(err)
	}
	if n == 0 {
		return "more"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %q host %q minor %d, %d octets\n", r.Method, r.Target, r.Host, r.Minor, n)
	fmt.Fprintf(&b, "length %d chunked %t close %t upgrade %q continue %t\n", r.ContentLength, r.Chunked, r.Close, r.Upgrade, r.Expect100)
	showFields(&b, r.Fields)
	return b.String()
}

func showResponse(r *Response, n int, err error) string {
	if err != nil {
		return showError(err)
	}
	if n == 0 {
		return "more"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d %q minor %d, %d octets\n", r.Status, r.Reason, r.Minor, n)
	fmt.Fprintf(&b, "length %d chunked %t close %t upgrade %q\n", r.ContentLength, r.Chunked, r.Close, r.Upgrade)
	length, chunked, untilClose := r.BodyLength([]byte("GET"))
	fmt.Fprintf(&b, "body of GET: %d chunked %t until close %t\n", length, chunked, untilClose)
	showFields(&b, r.Fields)
	return b.String()
}

func showChunks(in []byte, lim Limits) string {
	var c Chunks
	c.Reset(lim)
	body, n, err := decode(&c, in)
	var b strings.Builder
	fmt.Fprintf(&b, "body %q, %d octets\n", body, n)
	switch err {
	case nil:
		b.WriteString("more\n")
	case io.EOF:
		showFields(&b, c.Trailers())
	default:
		b.WriteString(showError(err))
	}
	return b.String()
}

// decode gives c all of in and returns what it found.
func decode(c *Chunks, in []byte) (body []byte, n int, err error) {
	for {
		data, used, err := c.Next(in[n:])
		body = append(body, data...)
		n += used
		if err != nil || used == 0 {
			return body, n, err
		}
	}
}

func TestRequestScenarios(t *testing.T) {
	judge := func(in []byte, lim Limits) string {
		var r Request
		n, err := r.Parse(in, lim)
		return showRequest(&r, n, err)
	}
	runScenarios(t, "requests.txt", judge)
	runScenarios(t, "smuggling.txt", judge)
}

func TestResponseScenarios(t *testing.T) {
	runScenarios(t, "responses.txt", func(in []byte, lim Limits) string {
		var r Response
		n, err := r.Parse(in, lim)
		return showResponse(&r, n, err)
	})
}

func TestChunkScenarios(t *testing.T) {
	runScenarios(t, "chunks.txt", showChunks)
}

// TestSmuggling holds that nothing in the corpus of request smuggling passes, whatever its file says.
func TestSmuggling(t *testing.T) {
	for _, in := range seeds(t, "smuggling.txt") {
		var r Request
		if _, err := r.Parse(in, usual); err == nil {
			t.Errorf("passes: %q", in)
		}
	}
}
