use redis::{Arg, Cmd, ErrorKind, FromRedisValue, RedisResult, ServerErrorKind, ToRedisArgs, Value};

use super::{Redis, read};
use crate::Result;

/// A Lua script, sent by its hash, and whole to a server that does not have it yet.
#[derive(Debug)]
pub struct Script {
    code: &'static str,
    hash: String,
}

impl Script {
    pub fn new(code: &'static str) -> Self {
        Self { code, hash: redis::Script::new(code).get_hash().to_owned() }
    }

    /// A call with every key that the script touches, at least one. They must share a hash tag: the first one decides
    /// which node of a cluster is asked.
    pub fn call(&self, keys: &[String]) -> Call<'_> {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.hash).arg(keys.len()).arg(keys);
        Call { script: self, command }
    }
}

/// A script with its keys, to which arguments are added.
pub struct Call<'a> {
    script: &'a Script,
    command: Cmd,
}

impl Call<'_> {
    pub fn arg(&mut self, argument: impl ToRedisArgs) -> &mut Self {
        self.command.arg(argument);
        self
    }

    pub async fn run<T: FromRedisValue>(&self, redis: &Redis) -> Result<T> {
        read(self.ask(redis).await)
    }

    async fn ask(&self, redis: &Redis) -> RedisResult<Value> {
        match redis.ask(&self.command).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                redis.ask(&self.whole()).await
            }
            answer => answer,
        }
    }

    /// The same call with the script's text, which the server then keeps.
    fn whole(&self) -> Cmd {
        let mut whole = redis::cmd("EVAL");
        whole.arg(self.script.code);
        for argument in self.command.args_iter().skip(2) {
            if let Arg::Simple(bytes) = argument {
                whole.arg(bytes);
            }
        }
        whole
    }
}
