package grpcclient

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/even-keel/evenkeel/client"
	"github.com/even-keel/evenkeel/contain/retry"
)

// ReceiveUnary is a server's interceptor that puts the class and the attempt that a call's sender says into its context, so that the calls made
// for it say the same. gRPC does so with deadlines itself. As with client.Receive, what senders say is believed.
func ReceiveUnary(ctx context.Context, in any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	return handle(received(ctx), in)
}

// ReceiveStream is ReceiveUnary for streams.
func ReceiveStream(server any, s grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	return handle(server, serverStream{s, received(s.Context())})
}

type serverStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s serverStream) Context() context.Context { return s.ctx }

func received(ctx context.Context) context.Context {
	md, _ := metadata.FromIncomingContext(ctx)
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
