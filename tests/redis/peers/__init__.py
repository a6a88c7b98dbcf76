"""What the tests of Redis talk to: servers, alone and in groups, a proxy that cuts, and programs that use them."""
