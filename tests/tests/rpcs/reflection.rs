//! A server's description of itself by reflection, in both versions of the protocol.

use std::collections::BTreeSet;

use orbit_tests::deadline::within;
use prost::Message as _;
use prost_reflect::DescriptorPool;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use tonic::transport::Channel;
use tonic::{Code, Status};

/// The client, questions and answers of one version. The versions differ in their types only.
macro_rules! version {
    ($name:ident) => {
        pub(crate) mod $name {
            use tonic_reflection::pb::$name::server_reflection_client::ServerReflectionClient;
            use tonic_reflection::pb::$name::server_reflection_request::MessageRequest;
            use tonic_reflection::pb::$name::server_reflection_response::MessageResponse;
            use tonic_reflection::pb::$name::{ServerReflectionRequest, ServerReflectionResponse};

            use super::*;

            async fn ask(channel: Channel, question: MessageRequest) -> Result<MessageResponse, Status> {
                let request =
                    ServerReflectionRequest { host: String::new(), message_request: Some(question) };
                let mut client = ServerReflectionClient::new(channel);
                let asking = async {
                    let asked = client.server_reflection_info(tokio_stream::iter([request])).await;
                    asked?.into_inner().message().await
                };
                let answer: Option<ServerReflectionResponse> = within("reflection", asking).await?;
                let answer =
                    answer.and_then(|answer| answer.message_response).expect("a question is answered");
                match answer {
                    MessageResponse::ErrorResponse(error) => {
                        Err(Status::new(Code::from(error.error_code), error.error_message))
                    }
                    answer => Ok(answer),
                }
            }

            /// The services that are listed.
            pub(crate) async fn services(channel: Channel) -> Vec<String> {
                let answer = ask(channel, MessageRequest::ListServices(String::new())).await;
                let answer = answer.expect("services are listed");
                let MessageResponse::ListServicesResponse(listed) = answer else { panic!("{answer:?}") };
                listed.service.into_iter().map(|service| service.name).collect()
            }

            async fn files(
                channel: Channel,
                question: MessageRequest,
            ) -> Result<Vec<FileDescriptorProto>, Status> {
                let answer = ask(channel, question).await?;
                let MessageResponse::FileDescriptorResponse(files) = answer else { panic!("{answer:?}") };
                let files = files.file_descriptor_proto.iter();
                Ok(files.map(|file| FileDescriptorProto::decode(&file[..]).expect("a descriptor")).collect())
            }

            /// The file that describes a name.
            pub(crate) async fn file_of(
                channel: Channel,
                symbol: &str,
            ) -> Result<Vec<FileDescriptorProto>, Status> {
                files(channel, MessageRequest::FileContainingSymbol(symbol.to_owned())).await
            }

            /// A file by its name.
            pub(crate) async fn file(
                channel: Channel,
                name: &str,
            ) -> Result<Vec<FileDescriptorProto>, Status> {
                files(channel, MessageRequest::FileByFilename(name.to_owned())).await
            }
        }
    };
}

version!(v1);
version!(v1alpha);

/// The services of a server, and everything that is needed to call them.
pub(crate) async fn describe(channel: Channel) -> (Vec<String>, DescriptorPool) {
    let services = v1::services(channel.clone()).await;
    let mut files: Vec<FileDescriptorProto> = Vec::new();
    let mut wanted: Vec<String> = Vec::new();
    let mut names = BTreeSet::new();
    let mut take = |found: Vec<FileDescriptorProto>, wanted: &mut Vec<String>| {
        for file in found {
            wanted.extend(file.dependency.clone());
            if names.insert(file.name().to_owned()) {
                files.push(file);
            }
        }
    };
    for service in &services {
        let found = v1::file_of(channel.clone(), service).await;
        take(found.unwrap_or_else(|status| panic!("{service} is not described: {status}")), &mut wanted);
    }
    let mut asked = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        if asked.insert(name.clone()) {
            let found = v1::file(channel.clone(), &name).await;
            take(found.unwrap_or_else(|status| panic!("{name} is not described: {status}")), &mut wanted);
        }
    }
    let pool = DescriptorPool::from_file_descriptor_set(FileDescriptorSet { file: files });
    (services, pool.expect("the descriptors fit together"))
}
