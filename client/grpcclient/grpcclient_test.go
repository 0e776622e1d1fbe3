package grpcclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/even-keel/evenkeel/client"
	"github.com/even-keel/evenkeel/contain/breaker"
	"github.com/even-keel/evenkeel/contain/retry"
)

// scripted answers one call after the other as it is told: "ok", "unavailable", "exhausted 20" (with a pushback), "internal", "hang".
type scripted struct {
	grpc_testing.UnimplementedTestServiceServer

	mu     sync.Mutex
	script []string
	got    []metadata.MD
	left   []time.Duration // until the deadline; 0: there was none
	class  []client.Class
	trace  string // of the last call, as its context says

	attempts bool // lines are for attempts, in whatever order they come
}

// attempt is which attempt a call says that it is.
func (s *scripted) attempt(md metadata.MD) int {
	if v := md.Get(retry.FieldAttempt); len(v) > 0 {
		return retry.CallerAttempt(v[0])
	}
	return 1
}

func (s *scripted) next(ctx context.Context, trailer func(metadata.MD)) error {
	md, _ := metadata.FromIncomingContext(ctx)
	s.mu.Lock()
	n := len(s.got)
	if s.attempts {
		n = s.attempt(md) - 1
	}
	line := s.script[min(n, len(s.script)-1)]
	left := time.Duration(0)
	if end, has := ctx.Deadline(); has {
		left = time.Until(end)
	}
	s.got, s.left, s.class = append(s.got, md), append(s.left, left), append(s.class, client.ClassOf(ctx))
	parent, state := client.TraceOf(ctx)
	s.trace = parent + " " + state
	s.mu.Unlock()
	word := strings.Fields(line)
	if len(word) > 1 {
		trailer(metadata.Pairs(retry.FieldPushback, word[1]))
	}
	switch word[0] {
	case "unavailable":
		return status.Error(codes.Unavailable, "told so")
	case "exhausted":
		return status.Error(codes.ResourceExhausted, "told so")
	case "internal":
		return status.Error(codes.Internal, "told so")
	case "late":
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
		}
		return status.Error(codes.Unavailable, "told so")
	case "hang":
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	}
	return nil
}

func (s *scripted) calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

func (s *scripted) UnaryCall(ctx context.Context, in *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	err := s.next(ctx, func(md metadata.MD) { _ = grpc.SetTrailer(ctx, md) })
	md, _ := metadata.FromIncomingContext(ctx)
	own := metadata.Pairs("x-attempt", strconv.Itoa(s.attempt(md)))
	_, _ = grpc.SetHeader(ctx, own), grpc.SetTrailer(ctx, own)
	return &grpc_testing.SimpleResponse{Username: string(in.GetPayload().GetBody())}, err
}

func (s *scripted) StreamingOutputCall(in *grpc_testing.StreamingOutputCallRequest, out grpc_testing.TestService_StreamingOutputCallServer) error {
	if err := s.next(out.Context(), out.SetTrailer); err != nil {
		return err
	}
	for range 3 {
		if err := out.Send(&grpc_testing.StreamingOutputCallResponse{Payload: in.GetPayload()}); err != nil {
			return err
		}
	}
	if s.calls() > 1 && string(in.GetPayload().GetBody()) == "break" {
		return status.Error(codes.Unavailable, "in the middle")
	}
	return nil
}

func (s *scripted) StreamingInputCall(in grpc_testing.TestService_StreamingInputCallServer) error {
	if err := s.next(in.Context(), in.SetTrailer); err != nil {
		return err
	}
	n := 0
	for {
		if _, err := in.Recv(); errors.Is(err, io.EOF) {
			return in.SendAndClose(&grpc_testing.StreamingInputCallResponse{AggregatedPayloadSize: int32(n)})
		} else if err != nil {
			return err
		}
		n++
	}
}

// serve is a server, and calls to it with a Client.
func serve(t *testing.T, o Options, script ...string) (*scripted, grpc_testing.TestServiceClient, *Client) {
	t.Helper()
	l := bufconn.Listen(1 << 16)
	s := &scripted{script: script}
	server := grpc.NewServer(grpc.UnaryInterceptor(ReceiveUnary), grpc.StreamInterceptor(ReceiveStream))
	grpc_testing.RegisterTestServiceServer(server, s)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-done })
	calls, c := connect(t, o, func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) })
	return s, calls, c
}

func connect(t *testing.T, o Options, dial func(context.Context, string) (net.Conn, error)) (grpc_testing.TestServiceClient, *Client) {
	t.Helper()
	c := New(o)
	for range 50 { // so that there are repeats to spend
		c.hosts.Of("passthrough:///shop", time.Now())
	}
	cc, err := grpc.NewClient("passthrough:///shop", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(dial),
		grpc.WithUnaryInterceptor(c.Unary()), grpc.WithStreamInterceptor(c.Stream()), grpc.WithDisableRetry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return grpc_testing.NewTestServiceClient(cc), c
}

func TestUnary(t *testing.T) {
	for name, c := range map[string]struct {
		script []string
		safe   bool
		want   codes.Code
		calls  int
		kept   string
	}{
		"success":                   {[]string{"ok"}, false, codes.OK, 1, ""},
		"unavailable":               {[]string{"unavailable", "ok"}, true, codes.OK, 2, ""},
		"three at the most":         {[]string{"unavailable"}, true, codes.Unavailable, 3, "attempts"},
		"not known to be safe":      {[]string{"unavailable"}, false, codes.Unavailable, 1, "unsafe"},
		"exhausted with a time":     {[]string{"exhausted 20", "ok"}, true, codes.OK, 2, ""},
		"exhausted without a time":  {[]string{"exhausted"}, true, codes.ResourceExhausted, 1, ""},
		"exhausted for a long time": {[]string{"exhausted 60000"}, true, codes.ResourceExhausted, 1, "retry_after"},
		"forbidden":                 {[]string{"unavailable -1"}, true, codes.Unavailable, 1, "forbidden"},
		"internal never":            {[]string{"internal"}, true, codes.Internal, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			last := client.Attempt{}
			s, calls, _ := serve(t, Options{Idempotent: func(m string) bool { return c.safe && strings.HasSuffix(m, "/UnaryCall") },
				Observe: func(a client.Attempt) { last = a }}, c.script...)
			out, err := calls.UnaryCall(t.Context(), &grpc_testing.SimpleRequest{Payload: &grpc_testing.Payload{Body: []byte("order")}})
			if status.Code(err) != c.want || s.calls() != c.calls || last.Number != c.calls || last.Kept != c.kept {
				t.Errorf("%v after %d calls, the last was %+v", err, s.calls(), last)
			}
			if err == nil && out.Username != "order" {
				t.Errorf("%v", out)
			}
		})
	}
}

func TestWhatTravels(t *testing.T) {
	s, calls, _ := serve(t, Options{Timeout: time.Minute}, "unavailable", "ok")
	ctx := client.WithIdempotent(client.WithClass(t.Context(), client.Low))
	if _, err := calls.UnaryCall(metadata.AppendToOutgoingContext(ctx, "x-own", "a"), &grpc_testing.SimpleRequest{}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"", "2"} {
		if have := strings.Join(s.got[i].Get(retry.FieldAttempt), ","); have != want || s.got[i].Get("x-own")[0] != "a" {
			t.Errorf("call %d: attempt %q, want %q", i+1, have, want)
		}
		if s.class[i] != client.Low || s.left[i] <= 0 || s.left[i] > time.Minute {
			t.Errorf("call %d: class %q, %v left", i+1, s.class[i], s.left[i])
		}
	}
	if _, err := calls.UnaryCall(client.WithAttempt(t.Context(), 2), &grpc_testing.SimpleRequest{}); err != nil || s.got[2].Get(retry.FieldAttempt)[0] != "2" {
		t.Errorf("%v, %v", err, s.got[2])
	}
}

const place = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// TestTraceTravels: each attempt says where in a trace it is, by the option, the context or its metadata; its server passes it on.
func TestTraceTravels(t *testing.T) {
	ofAttempt := func(ctx context.Context) (string, string) {
		return fmt.Sprintf("00-4bf92f3577b34da6a3ce929d0e0e4736-%016x-01", client.AttemptOf(ctx)), "own=1"
	}
	for name, c := range map[string]struct {
		o    Options
		ctx  func(context.Context) context.Context
		want string // of both attempts
	}{
		"nobody says anything": {want: " / / "},
		"by the context": {ctx: func(ctx context.Context) context.Context { return client.WithTrace(ctx, place, "rojo=1") },
			want: place + " rojo=1/" + place + " rojo=1/" + place + " rojo=1"},
		"by the option": {o: Options{Trace: ofAttempt}, want: "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000001-01 own=1/" +
			"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000002-01 own=1/00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000002-01 own=1"},
		"by its metadata": {o: Options{Trace: ofAttempt}, ctx: func(ctx context.Context) context.Context {
			return metadata.AppendToOutgoingContext(ctx, "traceparent", place)
		}, want: place + " /" + place + " /" + place + " "},
	} {
		seen := ""
		c.o.Observe = func(a client.Attempt) { seen = a.Trace }
		s, calls, _ := serve(t, c.o, "unavailable", "ok")
		ctx := client.WithIdempotent(t.Context())
		if c.ctx != nil {
			ctx = c.ctx(ctx)
		}
		if _, err := calls.UnaryCall(ctx, &grpc_testing.SimpleRequest{}); err != nil || s.calls() != 2 {
			t.Fatalf("%s: %v after %d calls", name, err, s.calls())
		}
		said := func(md metadata.MD) string {
			return strings.Join(md.Get("traceparent"), ",") + " " + strings.Join(md.Get("tracestate"), ",")
		}
		if have := said(s.got[0]) + "/" + said(s.got[1]) + "/" + s.trace; have != c.want || seen+" " != s.trace[:len(seen)]+" " {
			t.Errorf("%s: %s, seen as %s, want %s", name, have, seen, c.want)
		}
	}
}

func TestAttemptTimeout(t *testing.T) {
	s, calls, _ := serve(t, Options{AttemptTimeout: 50 * time.Millisecond}, "hang", "ok")
	if _, err := calls.UnaryCall(client.WithIdempotent(t.Context()), &grpc_testing.SimpleRequest{}); err != nil || s.calls() != 2 || s.left[0] > 50*time.Millisecond {
		t.Errorf("%v, %d calls, %v", err, s.calls(), s.left)
	}
}

// What no server saw is tried again whatever it is.
func TestNoConnection(t *testing.T) {
	dials := make(chan struct{}, 1000)
	calls, c := connect(t, Options{}, func(context.Context, string) (net.Conn, error) {
		dials <- struct{}{}
		return nil, errors.New("nobody there")
	})
	if _, err := calls.UnaryCall(t.Context(), &grpc_testing.SimpleRequest{}); status.Code(err) != codes.Unavailable {
		t.Error(err)
	}
	if s := c.Status()[0]; s.Attempts != 3 || s.Repeats != 2 {
		t.Errorf("%+v", s)
	}
}

func TestRefusedHere(t *testing.T) {
	s, calls, _ := serve(t, Options{NoBreaker: true, Random: func() float64 { return 0 }}, "exhausted 60000")
	_, err := calls.UnaryCall(t.Context(), &grpc_testing.SimpleRequest{})
	if RetryAfter(err) != time.Minute || status.Code(err) != codes.ResourceExhausted || status.Convert(err).Message() != "told so" {
		t.Errorf("%v, again after %v", err, RetryAfter(err))
	}
	for range 9 {
		_, err = calls.UnaryCall(t.Context(), &grpc_testing.SimpleRequest{})
	}
	if left := RetryAfter(err); left < 50*time.Second || left > time.Minute {
		t.Errorf("%v, again after %v", err, left)
	}
	var refused *client.Refused
	if !errors.As(err, &refused) || refused.Stage != client.StageThrottle || status.Code(err) != codes.Unavailable || s.calls() != 5 {
		t.Errorf("%v after %d calls", err, s.calls())
	}
	if _, err := calls.StreamingOutputCall(t.Context(), &grpc_testing.StreamingOutputCallRequest{}); !errors.As(err, &refused) {
		t.Error(err)
	}
	for _, other := range []error{nil, errors.New("other"), status.Error(codes.Unavailable, "plain")} {
		if RetryAfter(other) != 0 {
			t.Errorf("%v asks for %v", other, RetryAfter(other))
		}
	}
}

// until does it again until it fails no more.
func until(t *testing.T, do func() error) {
	t.Helper()
	err := do()
	for end := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(end); err = do() {
		<-time.After(5 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestQuietTrial: a stream that is the trial of a host, and says nothing, does not keep other calls from finding out that the host is well.
func TestQuietTrial(t *testing.T) {
	for name, leave := range map[string]bool{"quiet": false, "cancelled": true} {
		t.Run(name, func(t *testing.T) {
			s, calls, made := serve(t, Options{Rules: retry.Rules{Attempts: 1}, NoThrottle: true, Breaker: breaker.Config{Row: 1, OpenFor: time.Millisecond, Trials: 1}},
				"unavailable", "hang", "ok")
			if _, err := calls.UnaryCall(t.Context(), &grpc_testing.SimpleRequest{}); status.Code(err) != codes.Unavailable {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			until(t, func() error { // the breaker lets it through
				_, err := calls.StreamingOutputCall(ctx, &grpc_testing.StreamingOutputCallRequest{})
				return err
			})
			until(t, func() error { // it is there
				if s.calls() < 2 {
					return errors.New("the stream has not come")
				}
				return nil
			})
			if leave {
				stop()
			}
			until(t, func() error {
				_, err := calls.UnaryCall(t.Context(), &grpc_testing.SimpleRequest{})
				return err
			})
			if st := made.Status()[0]; st.Breaker.State != breaker.Closed {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestNoHedge: what answers in time is called once.
func TestNoHedge(t *testing.T) {
	s, calls, _ := serve(t, Options{Hedge: time.Minute, Idempotent: func(string) bool { return true }}, "ok")
	if _, err := calls.UnaryCall(t.Context(), &grpc_testing.SimpleRequest{}); err != nil || s.calls() != 1 {
		t.Errorf("%v after %d calls", err, s.calls())
	}
}

// TestHedge: a call that may be made twice and has no answer in time is made a second time beside the first; whichever answers gives message, head,
// trailer and peer, and the other one says nothing of its server.
func TestHedge(t *testing.T) {
	for name, c := range map[string]struct {
		script []string
		safe   bool
		share  float64
		want   codes.Code
		calls  uint64 // that were made
		hedge  bool
	}{
		"the second wins":      {script: []string{"hang", "ok"}, safe: true, want: codes.OK, calls: 2, hedge: true},
		"the second is told":   {script: []string{"hang", "internal"}, safe: true, want: codes.Internal, calls: 2, hedge: true},
		"both fail, a third":   {script: []string{"late", "unavailable", "ok"}, safe: true, want: codes.OK, calls: 3},
		"not known to be safe": {script: []string{"late", "ok"}, want: codes.Unavailable, calls: 1},
		"no budget":            {script: []string{"late", "ok"}, safe: true, share: -1, want: codes.Unavailable, calls: 1},
	} {
		t.Run(name, func(t *testing.T) {
			last, told := client.Attempt{}, map[int]bool{}
			s, calls, made := serve(t, Options{Hedge: 20 * time.Millisecond, Share: c.share, Observe: func(a client.Attempt) { last, told[a.Number] = a, true },
				Idempotent: func(method string) bool { return c.safe && strings.HasSuffix(method, "/UnaryCall") }}, c.script...)
			s.attempts = true
			if _, err := calls.EmptyCall(t.Context(), &grpc_testing.Empty{}); status.Code(err) != codes.Unimplemented { // so that it is connected
				t.Fatal(err)
			}
			var head, trailer metadata.MD
			var from peer.Peer
			out, err := calls.UnaryCall(t.Context(), &grpc_testing.SimpleRequest{Payload: &grpc_testing.Payload{Body: []byte("order")}}, grpc.Header(&head), grpc.Trailer(&trailer), grpc.Peer(&from))
			if n := made.Status()[0].Attempts - 1; status.Code(err) != c.want || n != c.calls || last.Hedge != c.hedge || len(told) != int(n) {
				t.Errorf("%v after %d calls, told of %v, the last was %+v", err, n, told, last)
			}
			if number := []string{strconv.Itoa(int(c.calls))}; err == nil && (out.Username != "order" || !slices.Equal(head.Get("x-attempt"), number) || !slices.Equal(trailer.Get("x-attempt"), number) || from.Addr == nil) {
				t.Errorf("%v, head %v, trailer %v, from %v", out, head, trailer, from.Addr)
			}
			if c.hedge && c.want == codes.OK {
				if st := made.Status()[0]; st.Hedges != 1 || st.Breaker.Failed != 0 {
					t.Errorf("%+v", st)
				}
			}
		})
	}
}

// TestChain: what the middle one of three tried as often as it may be is not tried again by the first, who may.
func TestChain(t *testing.T) {
	for script, want := range map[string]int{"unavailable": 3, "unavailable -1": 1} {
		o := Options{Idempotent: func(string) bool { return true }, Random: func() float64 { return 0.95 }} // nothing is held back
		last, calls, _ := serve(t, o, script)
		middle := &passing{to: calls}
		l := bufconn.Listen(1 << 16)
		server := grpc.NewServer(grpc.UnaryInterceptor(ReceiveUnary), grpc.StreamInterceptor(ReceiveStream))
		grpc_testing.RegisterTestServiceServer(server, middle)
		done := make(chan struct{})
		go func() { defer close(done); _ = server.Serve(l) }()
		t.Cleanup(func() { server.Stop(); <-done })
		first, _ := connect(t, o, func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) })
		if _, err := first.UnaryCall(t.Context(), &grpc_testing.SimpleRequest{}); status.Code(err) != codes.Unavailable || last.calls() != want {
			t.Errorf("%s: %v after %d calls of the last, want %d", script, err, last.calls(), want)
		}
		in, err := first.StreamingOutputCall(t.Context(), &grpc_testing.StreamingOutputCallRequest{})
		if err == nil {
			_, err = in.Recv()
		}
		if status.Code(err) != codes.Unavailable || last.calls() != 2*want {
			t.Errorf("%s: %v after %d calls of the last, want %d", script, err, last.calls(), 2*want)
		}
	}
	NoRetry(t.Context()) // which is no call of a server
}

// passing asks another server for all that it is asked.
type passing struct {
	grpc_testing.UnimplementedTestServiceServer
	to grpc_testing.TestServiceClient
}

func (p *passing) UnaryCall(ctx context.Context, in *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	return p.to.UnaryCall(ctx, in)
}

func (p *passing) StreamingOutputCall(_ *grpc_testing.StreamingOutputCallRequest, out grpc_testing.TestService_StreamingOutputCallServer) error {
	_, err := p.to.UnaryCall(out.Context(), &grpc_testing.SimpleRequest{})
	return err
}

// A stream with one request is tried again until its first answer, and never after it.
func TestServerStream(t *testing.T) {
	for name, c := range map[string]struct {
		script []string
		safe   bool
		body   string
		want   string
		calls  int
	}{
		"success":              {[]string{"ok"}, false, "x", "xxx OK", 1},
		"again":                {[]string{"unavailable", "exhausted 1", "ok"}, true, "x", "xxx OK", 3},
		"not known to be safe": {[]string{"unavailable"}, false, "x", " Unavailable", 1},
		"in the middle":        {[]string{"unavailable", "ok"}, true, "break", "breakbreakbreak Unavailable", 2},
		"never":                {[]string{"unavailable"}, true, "x", " Unavailable", 3},
	} {
		t.Run(name, func(t *testing.T) {
			s, calls, _ := serve(t, Options{Idempotent: func(string) bool { return c.safe }}, c.script...)
			in, err := calls.StreamingOutputCall(t.Context(), &grpc_testing.StreamingOutputCallRequest{Payload: &grpc_testing.Payload{Body: []byte(c.body)}})
			if err != nil {
				t.Fatal(err)
			}
			have := ""
			for err == nil {
				var m *grpc_testing.StreamingOutputCallResponse
				if m, err = in.Recv(); err == nil {
					have += string(m.GetPayload().GetBody())
				}
			}
			if errors.Is(err, io.EOF) {
				err = nil
			}
			if have += " " + status.Code(err).String(); have != c.want || s.calls() != c.calls {
				t.Errorf("%s (%v) after %d calls, want %s after %d", have, err, s.calls(), c.want, c.calls)
			}
		})
	}
}

// What a stream of many messages sent is not kept, and so not sent again.
func TestClientStream(t *testing.T) {
	for script, want := range map[string]string{"ok": "OK 3", "unavailable": "Unavailable 0"} {
		var last client.Attempt
		s, calls, _ := serve(t, Options{Idempotent: func(string) bool { return true }, Observe: func(a client.Attempt) { last = a }}, script)
		out, err := calls.StreamingInputCall(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			_ = out.Send(&grpc_testing.StreamingInputCallRequest{})
		}
		sum, err := out.CloseAndRecv()
		if have := status.Code(err).String() + " " + strconv.Itoa(int(sum.GetAggregatedPayloadSize())); have != want || s.calls() != 1 || last.Number != 1 {
			t.Errorf("%s: %s after %d calls", script, have, s.calls())
		}
	}
}

func TestCancelledWait(t *testing.T) {
	ctx, stop := context.WithCancel(client.WithIdempotent(t.Context()))
	s, calls, _ := serve(t, Options{Observe: func(client.Attempt) { stop() }}, "exhausted 900")
	if _, err := calls.UnaryCall(ctx, &grpc_testing.SimpleRequest{}); status.Code(err) != codes.Canceled || s.calls() != 1 {
		t.Errorf("%v after %d calls", err, s.calls())
	}
}
