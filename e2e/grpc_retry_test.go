package e2e_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// retryServer says that it is not available to the first calls.
type retryServer struct {
	grpc_testing.UnimplementedTestServiceServer
	fails atomic.Int64
	calls chan metadata.MD
	says  metadata.MD
}

func (s *retryServer) UnaryCall(ctx context.Context, _ *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	s.calls <- md
	if s.fails.Add(-1) >= 0 {
		_ = grpc.SetTrailer(ctx, s.says)
		return nil, status.Error(codes.Unavailable, "not now")
	}
	return &grpc_testing.SimpleResponse{}, nil
}

// TestRetryOfGRPC: calls may have had their effect, so only those with a key are tried again.
func TestRetryOfGRPC(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, server := grpc.NewServer(), &retryServer{calls: make(chan metadata.MD, 10)}
	grpc_testing.RegisterTestServiceServer(s, server)
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() { s.Stop(); <-done })
	g := run(t, "--listen", "127.0.0.1:0", "--to", "h2c://"+ln.Addr().String())
	conn, err := grpc.NewClient("passthrough:///"+g.at["web"], grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	client := grpc_testing.NewTestServiceClient(conn)
	for _, c := range []struct {
		name  string
		send  metadata.MD
		says  metadata.MD
		fails int64
		calls int
		want  codes.Code
		told  string // grpc-retry-pushback-ms to the client
	}{
		{name: "well", calls: 1},
		{name: "without a key", fails: 1, calls: 1, want: codes.Unavailable},
		{name: "with a key", send: metadata.Pairs("idempotency-key", "a"), fails: 1, calls: 2},
		{name: "with a key, thrice", send: metadata.Pairs("idempotency-key", "a"), fails: 3, calls: 3, want: codes.Unavailable, told: "-1"},
		{name: "with a key, thrice, pushed back", send: metadata.Pairs("idempotency-key", "a"), says: metadata.Pairs("grpc-retry-pushback-ms", "10"), fails: 3, calls: 3,
			want: codes.Unavailable, told: "-1"},
		{name: "pushed back a little", send: metadata.Pairs("idempotency-key", "a"), says: metadata.Pairs("grpc-retry-pushback-ms", "50"), fails: 1, calls: 2},
		{name: "pushed back for good", send: metadata.Pairs("idempotency-key", "a"), says: metadata.Pairs("grpc-retry-pushback-ms", "-1"), fails: 1, calls: 1, want: codes.Unavailable, told: "-1"},
		{name: "the client tries again", send: metadata.Pairs("idempotency-key", "a", "grpc-previous-rpc-attempts", "1"), fails: 1, calls: 1, want: codes.Unavailable},
	} {
		server.fails.Store(c.fails)
		server.says = c.says
		ctx, stop := context.WithTimeout(metadata.NewOutgoingContext(t.Context(), c.send), patience)
		var trailer metadata.MD
		_, err := client.UnaryCall(ctx, &grpc_testing.SimpleRequest{}, grpc.Trailer(&trailer))
		stop()
		if status.Code(err) != c.want || len(server.calls) != c.calls || strings.Join(trailer.Get("grpc-retry-pushback-ms"), ",") != c.told {
			t.Errorf("%s: %v after %d calls, told %v; want %v after %d", c.name, err, len(server.calls), trailer, c.want, c.calls)
		}
		for range len(server.calls) {
			md := <-server.calls
			if len(md.Get("evenkeel-deadline")) != 1 {
				t.Errorf("%s: the server is told %v", c.name, md)
			}
		}
	}
}

// TestSafeCallsOfGRPC: calls of which the site says that they only read are tried again and hedged, and a server's word against it holds.
func TestSafeCallsOfGRPC(t *testing.T) {
	servers, addresses := [2]*readServer{}, [2]string{}
	for i := range servers {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := grpc.NewServer()
		servers[i], addresses[i] = &readServer{}, ln.Addr().String()
		grpc_testing.RegisterTestServiceServer(s, servers[i])
		done := make(chan error, 1)
		go func() { done <- s.Serve(ln) }()
		t.Cleanup(func() { s.Stop(); <-done })
	}
	g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}}
pools: {service: {endpoints: [%q, %q], http: h2, method: round_robin, shed: {mode: "off"}, outliers: {mode: "off"}}}
routes: [{name: all, pool: service, hedge: {after: 100ms}, safe_calls: [/grpc.testing.TestService/UnaryCall]}]
`, addresses[0], addresses[1]))
	conn, err := grpc.NewClient("passthrough:///"+g.at["web"], grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	client := grpc_testing.NewTestServiceClient(conn)
	// Each case calls until the first server, which is sick, was the first to be asked.
	for _, c := range []struct {
		name  string
		does  ailment
		call  func(context.Context) error
		calls int64 // at both
		want  codes.Code
	}{
		{name: "not available", does: ailment{fails: true}, calls: 2},
		{name: "not available, and not again", does: ailment{fails: true, says: metadata.Pairs("grpc-retry-pushback-ms", "-1")}, calls: 1, want: codes.Unavailable},
		{name: "slow", does: ailment{hangs: true}, calls: 2},
		{name: "slow, of another call", does: ailment{hangs: true, short: true}, calls: 1, call: func(ctx context.Context) error {
			_, err := client.EmptyCall(ctx, &grpc_testing.Empty{})
			return err
		}},
		{name: "not available, of another call", does: ailment{fails: true}, calls: 1, want: codes.Unavailable, call: func(ctx context.Context) error {
			_, err := client.EmptyCall(ctx, &grpc_testing.Empty{})
			return err
		}},
	} {
		servers[0].become(c.does)
		call := c.call
		if call == nil {
			call = func(ctx context.Context) error {
				r, err := client.UnaryCall(ctx, &grpc_testing.SimpleRequest{ResponseSize: 10, Payload: &grpc_testing.Payload{Body: make([]byte, 5000)}})
				if err == nil && len(r.GetPayload().GetBody()) != 5000 {
					return fmt.Errorf("the server saw a body of %d bytes", len(r.GetPayload().GetBody()))
				}
				return err
			}
		}
		for range 20 {
			before := [2]int64{servers[0].calls.Load(), servers[1].calls.Load()}
			ctx, stop := context.WithTimeout(t.Context(), patience)
			err := call(ctx)
			stop()
			sick, well := servers[0].calls.Load()-before[0], servers[1].calls.Load()-before[1]
			if sick == 0 {
				continue
			}
			if status.Code(err) != c.want || sick+well != c.calls {
				t.Errorf("%s: %v after %d calls of the sick and %d of the other, want %v after %d", c.name, err, sick, well, c.want, c.calls)
			}
			break
		}
	}
}

// readServer answers with the body that it was sent, unless it is sick.
type readServer struct {
	grpc_testing.UnimplementedTestServiceServer
	calls atomic.Int64

	mu  sync.Mutex
	ail ailment
}

// ailment is what a readServer lacks.
type ailment struct {
	fails, hangs, short bool
	says                metadata.MD
}

func (s *readServer) become(a ailment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ail = a
}

func (s *readServer) do(ctx context.Context) error {
	s.calls.Add(1)
	s.mu.Lock()
	ail := s.ail
	s.mu.Unlock()
	if ail.hangs {
		wait := patience
		if ail.short {
			wait = 300 * time.Millisecond
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	if ail.fails {
		_ = grpc.SetTrailer(ctx, ail.says)
		return status.Error(codes.Unavailable, "not now")
	}
	return nil
}

func (s *readServer) UnaryCall(ctx context.Context, in *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	return &grpc_testing.SimpleResponse{Payload: in.Payload}, s.do(ctx)
}

func (s *readServer) EmptyCall(ctx context.Context, _ *grpc_testing.Empty) (*grpc_testing.Empty, error) {
	return &grpc_testing.Empty{}, s.do(ctx)
}
