package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// messageMax is above the largest message that is sent; gRPC's own default is 4 MiB.
const messageMax = 32 << 20

// callServer answers the calls of gRPC's interoperability tests, and says what it saw of calls that end early.
type callServer struct {
	grpc_testing.UnimplementedTestServiceServer
	left chan error // why a call that waits was left
}

func (s *callServer) UnaryCall(ctx context.Context, in *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	if md, _ := metadata.FromIncomingContext(ctx); len(md.Get("x-echo")) > 0 {
		_ = grpc.SetHeader(ctx, metadata.MD{"x-echo": md.Get("x-echo"), "x-echo-bin": md.Get("x-echo-bin")})
		_ = grpc.SetTrailer(ctx, metadata.Pairs("x-last", "farewell", "x-last-bin", "\x00\xff"))
	}
	if st := in.GetResponseStatus(); st != nil {
		return nil, status.Error(codes.Code(st.Code), st.Message)
	}
	if in.ResponseSize < 0 { // waits for its end
		<-ctx.Done()
		s.left <- ctx.Err()
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	body := in.GetPayload().GetBody()
	if in.ResponseSize > 0 {
		body = bytes.Repeat([]byte{'r'}, int(in.ResponseSize))
	}
	return &grpc_testing.SimpleResponse{Payload: &grpc_testing.Payload{Body: body}}, nil
}

func (s *callServer) StreamingOutputCall(in *grpc_testing.StreamingOutputCallRequest, out grpc_testing.TestService_StreamingOutputCallServer) error {
	for _, p := range in.ResponseParameters {
		if err := out.Send(&grpc_testing.StreamingOutputCallResponse{Payload: &grpc_testing.Payload{Body: bytes.Repeat([]byte{'s'}, int(p.Size))}}); err != nil {
			return err
		}
	}
	if st := in.GetResponseStatus(); st != nil {
		return status.Error(codes.Code(st.Code), st.Message)
	}
	return nil
}

func (s *callServer) StreamingInputCall(in grpc_testing.TestService_StreamingInputCallServer) error {
	sum := 0
	for {
		m, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return in.SendAndClose(&grpc_testing.StreamingInputCallResponse{AggregatedPayloadSize: int32(sum)})
		}
		if err != nil {
			return err
		}
		sum += len(m.GetPayload().GetBody())
	}
}

func (s *callServer) FullDuplexCall(both grpc_testing.TestService_FullDuplexCallServer) error {
	for {
		m, err := both.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			s.left <- both.Context().Err()
			return err
		}
		if err := both.Send(&grpc_testing.StreamingOutputCallResponse{Payload: m.GetPayload()}); err != nil {
			return err
		}
	}
}

// startGRPC serves until the test ends.
func startGRPC(t *testing.T, opts ...grpc.ServerOption) (*callServer, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(append(opts, grpc.MaxRecvMsgSize(messageMax), grpc.MaxSendMsgSize(messageMax))...)
	calls := &callServer{left: make(chan error, 10)}
	grpc_testing.RegisterTestServiceServer(s, calls)
	grpc_health_v1.RegisterHealthServer(s, health.NewServer())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		s.Stop()
		<-done
	})
	return calls, ln.Addr().String()
}

// TestGRPC makes all kinds of calls through evenkeel: without TLS, with TLS in front, and with TLS on both sides.
func TestGRPC(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.pair("front", "localhost", "127.0.0.1")
	site := func(pool string) string {
		return fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}, secure: {listen: "127.0.0.1:0", tls: {certificates: [{cert: %q, key: %q}]}}}
pools: {calls: %s}
`, cert, key, pool)
	}
	trust := credentials.NewClientTLSFromCert(a.pool, "localhost")
	calls, address := startGRPC(t)
	t.Run("h2c", func(t *testing.T) {
		callAll(t, calls, run(t, "--listen", "127.0.0.1:0", "--to", "h2c://"+address).at["web"], insecure.NewCredentials())
	})
	t.Run("TLS before h2c", func(t *testing.T) {
		g := runSite(t, site(fmt.Sprintf(`{endpoints: [%q], http: h2, probe: {grpc: {}}}`, address)))
		callAll(t, calls, g.at["secure"], trust)
	})
	t.Run("TLS before TLS", func(t *testing.T) {
		pair := a.load("calls", "localhost")
		calls, address := startGRPC(t, grpc.Creds(credentials.NewServerTLSFromCert(&pair)))
		g := runSite(t, site(fmt.Sprintf(`{endpoints: [%q], tls: {ca: %q, server_name: localhost}, probe: {grpc: {}}}`, address, a.file)))
		callAll(t, calls, g.at["secure"], trust)
	})
}

// callAll runs every call against one gateway.
func callAll(t *testing.T, s *callServer, address string, creds credentials.TransportCredentials) {
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageMax), grpc.MaxCallSendMsgSize(messageMax)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := grpc_testing.NewTestServiceClient(conn)
	for name, call := range map[string]func(*testing.T, context.Context, *callServer, grpc_testing.TestServiceClient){
		"unary": callUnary, "server streaming": callServerStreaming, "client streaming": callClientStreaming, "both streaming": callBothStreaming,
		"metadata": callMetadata, "status": callStatus, "deadline": callDeadline, "cancel": callCancel, "many": callMany,
	} {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithTimeout(t.Context(), patience)
			defer stop()
			call(t, ctx, s, c)
		})
	}
}

func payload(size int) *grpc_testing.Payload {
	return &grpc_testing.Payload{Body: bytes.Repeat([]byte{'p'}, size)}
}

func callUnary(t *testing.T, ctx context.Context, _ *callServer, c grpc_testing.TestServiceClient) {
	for _, size := range []int{0, 1, 16 << 10, 65_535, 1 << 20, 20 << 20} {
		out, err := c.UnaryCall(ctx, &grpc_testing.SimpleRequest{Payload: payload(size)})
		if err != nil || len(out.GetPayload().GetBody()) != size {
			t.Errorf("a call with %d bytes: %d bytes, %v", size, len(out.GetPayload().GetBody()), err)
		}
	}
}

func callServerStreaming(t *testing.T, ctx context.Context, _ *callServer, c grpc_testing.TestServiceClient) {
	in := &grpc_testing.StreamingOutputCallRequest{}
	for _, size := range []int32{31415, 9, 2653, 58979, 3 << 20} {
		in.ResponseParameters = append(in.ResponseParameters, &grpc_testing.ResponseParameters{Size: size})
	}
	in.ResponseStatus = &grpc_testing.EchoStatus{Code: int32(codes.DataLoss), Message: "half of it"}
	out, err := c.StreamingOutputCall(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range in.ResponseParameters {
		m, err := out.Recv()
		if err != nil || len(m.GetPayload().GetBody()) != int(p.Size) {
			t.Fatalf("message %d: %d bytes, %v", i, len(m.GetPayload().GetBody()), err)
		}
	}
	if _, err = out.Recv(); status.Code(err) != codes.DataLoss || status.Convert(err).Message() != "half of it" {
		t.Errorf("the status after the messages is %v", err)
	}
}

func callClientStreaming(t *testing.T, ctx context.Context, _ *callServer, c grpc_testing.TestServiceClient) {
	in, err := c.StreamingInputCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, size := range []int{27182, 8, 1828, 45904, 2 << 20} {
		sum += size
		if err := in.Send(&grpc_testing.StreamingInputCallRequest{Payload: payload(size)}); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := in.CloseAndRecv(); err != nil || int(out.AggregatedPayloadSize) != sum {
		t.Errorf("the server took %v, %v, want %d", out, err, sum)
	}
}

func callBothStreaming(t *testing.T, ctx context.Context, _ *callServer, c grpc_testing.TestServiceClient) {
	both, err := c.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 { // each waits for its answer: nothing may be held back
		if err := both.Send(&grpc_testing.StreamingOutputCallRequest{Payload: payload(i * 100)}); err != nil {
			t.Fatal(err)
		}
		if m, err := both.Recv(); err != nil || len(m.GetPayload().GetBody()) != i*100 {
			t.Fatalf("round %d: %d bytes, %v", i, len(m.GetPayload().GetBody()), err)
		}
	}
	if err := both.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := both.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the end is %v", err)
	}
}

func callMetadata(t *testing.T, ctx context.Context, _ *callServer, c grpc_testing.TestServiceClient) {
	var header, trailer metadata.MD
	ctx = metadata.AppendToOutgoingContext(ctx, "x-echo", "one", "x-echo", "two", "x-echo-bin", "\x00\x01\xfe")
	if _, err := c.UnaryCall(ctx, &grpc_testing.SimpleRequest{}, grpc.Header(&header), grpc.Trailer(&trailer)); err != nil {
		t.Fatal(err)
	}
	for _, v := range []struct {
		md         metadata.MD
		name, want string
	}{
		{header, "x-echo", "one,two"}, {header, "x-echo-bin", "\x00\x01\xfe"}, {trailer, "x-last", "farewell"}, {trailer, "x-last-bin", "\x00\xff"},
	} {
		if got := strings.Join(v.md.Get(v.name), ","); got != v.want {
			t.Errorf("%s is %q, want %q", v.name, got, v.want)
		}
	}
}

func callStatus(t *testing.T, ctx context.Context, _ *callServer, c grpc_testing.TestServiceClient) {
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		message := "because of \t\n\u263a % " + code.String()
		_, err := c.UnaryCall(ctx, &grpc_testing.SimpleRequest{ResponseStatus: &grpc_testing.EchoStatus{Code: int32(code), Message: message}})
		if status.Code(err) != code || status.Convert(err).Message() != message {
			t.Errorf("status %v came as %v", code, err)
		}
	}
	if _, err := c.HalfDuplexCall(ctx); err != nil {
		t.Error(err)
	}
	if _, err := c.UnimplementedCall(ctx, &grpc_testing.Empty{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("a method that is not there: %v", err)
	}
}

// leaves waits until the server sees the end of a call.
func (s *callServer) leaves(t *testing.T) error {
	t.Helper()
	select {
	case err := <-s.left:
		return err
	case <-time.After(patience):
		t.Fatal("the server never hears that the call was left")
		return nil
	}
}

func callDeadline(t *testing.T, ctx context.Context, s *callServer, c grpc_testing.TestServiceClient) {
	ctx, stop := context.WithTimeout(ctx, 200*time.Millisecond)
	defer stop()
	if _, err := c.UnaryCall(ctx, &grpc_testing.SimpleRequest{ResponseSize: -1}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("the client sees %v", err)
	}
	if err := s.leaves(t); err == nil {
		t.Error("the server's call goes on")
	}
}

func callCancel(t *testing.T, ctx context.Context, s *callServer, c grpc_testing.TestServiceClient) {
	ctx, cancel := context.WithCancel(ctx)
	var from peer.Peer
	both, err := c.FullDuplexCall(ctx, grpc.Peer(&from))
	if err != nil {
		t.Fatal(err)
	}
	if err := both.Send(&grpc_testing.StreamingOutputCallRequest{Payload: payload(10)}); err != nil {
		t.Fatal(err)
	}
	if _, err := both.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := both.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("the client sees %v", err)
	}
	if err := s.leaves(t); !errors.Is(err, context.Canceled) {
		t.Errorf("the server sees %v", err)
	}
}

// callMany has more calls at once than streams are allowed on one connection.
func callMany(t *testing.T, ctx context.Context, _ *callServer, c grpc_testing.TestServiceClient) {
	var wg sync.WaitGroup
	for range 150 {
		wg.Go(func() {
			for range 10 {
				if out, err := c.UnaryCall(ctx, &grpc_testing.SimpleRequest{Payload: payload(100), ResponseSize: 5000}); err != nil || len(out.GetPayload().GetBody()) != 5000 {
					t.Errorf("one of many calls: %v", err)
				}
			}
		})
	}
	wg.Wait()
}
