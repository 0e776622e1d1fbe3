package grpcclient

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/even-keel/evenkeel/client"
	"github.com/even-keel/evenkeel/contain/retry"
)

// ReceiveUnary is a server's interceptor that puts the class, attempt and trace that a call's sender says into its context, so that the calls made
// for it say the same. gRPC does so with deadlines itself. As with client.Receive, what senders say is believed. A call that ends with the error of one
// that was tried as often as it may be says to its sender that there is no use in trying again.
func ReceiveUnary(ctx context.Context, in any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	out, err := handle(received(ctx), in)
	if spent(err) {
		NoRetry(ctx)
	}
	return out, err
}

// ReceiveStream is ReceiveUnary for streams.
func ReceiveStream(server any, s grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	err := handle(server, serverStream{s, received(s.Context())})
	if spent(err) {
		s.SetTrailer(never())
	}
	return err
}

type serverStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s serverStream) Context() context.Context { return s.ctx }

func received(ctx context.Context) context.Context {
	md, _ := metadata.FromIncomingContext(ctx)
	if parent := md.Get(client.FieldTraceparent); len(parent) == 1 { // two are none
		ctx = client.WithTrace(ctx, parent[0], strings.Join(md.Get(client.FieldTracestate), ","))
	}
	if v := md.Get(client.FieldClass); len(v) > 0 {
		ctx = client.WithClass(ctx, client.Class(v[0]))
	}
	for _, name := range []string{retry.FieldAttempt, retry.FieldPrevious} {
		v := md.Get(name)
		switch {
		case len(v) == 0:
		case strings.EqualFold(name, retry.FieldPrevious):
			ctx = client.WithAttempt(ctx, max(client.AttemptOf(ctx), retry.PreviousAttempts(v[0])))
		default:
			ctx = client.WithAttempt(ctx, retry.CallerAttempt(v[0]))
		}
	}
	return ctx
}
