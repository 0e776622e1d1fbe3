package e2e_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// codeServer ends every call with a code: of its single answer at once, of its streams after a message.
type codeServer struct {
	grpc_testing.UnimplementedTestServiceServer
	code  atomic.Uint32
	calls atomic.Int64
}

func (s *codeServer) err() error {
	s.calls.Add(1)
	return status.Error(codes.Code(s.code.Load()), "told so") // nil for OK
}

func (s *codeServer) UnaryCall(context.Context, *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	return &grpc_testing.SimpleResponse{}, s.err()
}

func (s *codeServer) StreamingOutputCall(_ *grpc_testing.StreamingOutputCallRequest, out grpc_testing.TestService_StreamingOutputCallServer) error {
	if err := out.Send(&grpc_testing.StreamingOutputCallResponse{}); err != nil {
		return err
	}
	return s.err()
}

// startCodes starts a codeServer.
func startCodes(t *testing.T) (*codeServer, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, server := grpc.NewServer(), &codeServer{}
	grpc_testing.RegisterTestServiceServer(s, server)
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return server, ln.Addr().String()
}

// TestFailedCallsCount: a call of gRPC that failed has status 200, and is a failure all the same: to the breaker of its pool, to its endpoint, and
// in what is counted. One that says something about the call is none.
func TestFailedCallsCount(t *testing.T) {
	for _, c := range []struct {
		code     codes.Code
		deadline string // of the route; its callers have some seconds
		opens    bool   // the breaker: five in a row
		failures int    // of the endpoint
		counted  string
	}{
		{codes.Internal, "0s", true, 5, "5xx"}, {codes.Unknown, "0s", true, 5, "5xx"}, {codes.DataLoss, "0s", true, 5, "5xx"},
		{codes.Unavailable, "0s", false, 10, "5xx"}, {codes.ResourceExhausted, "0s", false, 10, "4xx"}, {codes.NotFound, "0s", false, 0, "2xx"}, {codes.OK, "0s", false, 0, "2xx"},
		{codes.DeadlineExceeded, "1s", true, 5, "5xx"}, {codes.DeadlineExceeded, "0s", false, 0, "2xx"}, // the site's, and the caller's
	} {
		for _, streams := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v of %s, stream %v", c.code, c.deadline, streams), func(t *testing.T) {
				server, address := startCodes(t)
				server.code.Store(uint32(c.code))
				g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}}
pools: {shop: {endpoints: [%q], http: h2, probe: {off: true}, shed: {mode: "off"}, breaker: {row: 5, row_for: 0s, samples: 1000, open: 1h, open_max: 1h}}}
routes: [{name: all, pool: shop, deadline: %s}]
`, address, c.deadline))
				conn, err := grpc.NewClient("passthrough:///"+g.at["web"], grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				shop := grpc_testing.NewTestServiceClient(conn)
				for i := range 10 {
					if c.opens && i == 5 { // what a client has seen to its end is counted a moment later
						until(t, "the breaker is open", func() bool { return metric(t, g, `evenkeel_breaker_state{pool="shop"} 2`) })
					}
					err := callOnce(t, shop, streams)
					want := c.code
					if c.opens && i >= 5 {
						want = codes.Unavailable
					}
					if status.Code(err) != want || want != c.code && !strings.Contains(err.Error(), "pool_open") {
						t.Fatalf("call %d: %v", i, err)
					}
				}
				asked := 10
				if c.opens {
					asked = 5
				}
				if n := server.calls.Load(); n != int64(asked) {
					t.Errorf("the endpoint was asked %d times, want %d", n, asked)
				}
				for _, want := range []string{
					fmt.Sprintf(`evenkeel_endpoint_failures_total{endpoint=%q,pool="shop"} %d`, address, c.failures),
					fmt.Sprintf(`evenkeel_requests_total{class="standard",code=%q,listener="web",route="all"} 10`, c.counted),
				} {
					until(t, want, func() bool { return metric(t, g, want) })
				}
			})
		}
	}
}

// callOnce makes a call, or a stream of one answer, to its end.
func callOnce(t *testing.T, shop grpc_testing.TestServiceClient, streams bool) error {
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	if !streams {
		_, err := shop.UnaryCall(ctx, &grpc_testing.SimpleRequest{})
		return err
	}
	in, err := shop.StreamingOutputCall(ctx, &grpc_testing.StreamingOutputCallRequest{})
	for err == nil {
		_, err = in.Recv()
	}
	if strings.Contains(err.Error(), "EOF") {
		return nil
	}
	return err
}
