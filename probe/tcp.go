package probe

import (
	"context"
	"fmt"
	"regexp"

	"github.com/even-keel/evenkeel/site"
)

// answerMax is how many bytes of an answer are looked at, by every kind of probe.
const answerMax = 64 << 10

// tcpKind connects, and may send bytes and await an answer; over TLS when the pool speaks it and there is talk.
type tcpKind struct {
	send   []byte
	expect *regexp.Regexp
}

func newTCP(cfg *site.ProbeTCP) (*tcpKind, error) {
	k := &tcpKind{send: []byte(cfg.Send)}
	if cfg.Expect == "" {
		return k, nil
	}
	var err error
	if k.expect, err = regexp.Compile(cfg.Expect); err != nil {
		return nil, fmt.Errorf("expect %q: %w", cfg.Expect, err)
	}
	return k, nil
}

func (k *tcpKind) ask(ctx context.Context, t Target) finding {
	talks := len(k.send) > 0 || k.expect != nil
	conn, hang, f := dial(ctx, t, talks && t.TLS != nil, "")
	if conn == nil {
		return f
	}
	defer hang()
	if len(k.send) > 0 {
		if _, err := conn.Write(k.send); err != nil {
			return failed("send", err)
		}
	}
	if k.expect == nil {
		return good("connected")
	}
	// The answer may come in pieces; it is matched anew after each, in a buffer that grows with it.
	buf := make([]byte, 0, 1024)
	for {
		if len(buf) == cap(buf) {
			buf = append(make([]byte, 0, min(4*cap(buf), answerMax)), buf...)
		}
		n, err := conn.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case n > 0 && k.expect.Match(buf):
			return good("answer matches")
		case len(buf) == answerMax, err != nil && len(buf) > 0 && !isTimeout(err):
			return bad("answer does not match %s", k.expect)
		case err != nil:
			return failed("answer", err)
		}
	}
}
