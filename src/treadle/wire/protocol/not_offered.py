"""Names of methods of the reference versions (0.129.0, 0.169.0) that this server does not have.

Each has a row all the same: it answers that it is not supported.
"""

NOT_OFFERED = """
    account/gatewayOAuth/cancel account/gatewayOAuth/login account/gatewayOAuth/read
    account/rateLimitResetCredit/consume
    account/rateLimits/read account/securitySetup/read account/sendAddCreditsNudgeEmail
    account/usage/read account/workspaceMessages/read app/installed app/list app/read
    externalAgentConfig/detect
    externalAgentConfig/import externalAgentConfig/import/readHistories
    externalAgentConfig/import/recordHistory
    getConversationSummary
    marketplace/add marketplace/remove marketplace/upgrade
    modelProvider/config/write
    plugin/install plugin/installed plugin/list plugin/read
    plugin/reconcile plugin/share/checkout plugin/share/delete plugin/share/list
    plugin/share/save plugin/share/updateTargets plugin/skill/read plugin/uninstall
    thread/approveGuardianDeniedAction
    thread/attachment/add thread/attachment/list thread/attachment/remove
    thread/attachmentOwner/list thread/section/move
    threadSection/create threadSection/delete threadSection/list threadSection/update
    windowsSandbox/readiness windowsSandbox/setupStart
"""

NOT_OFFERED_EXPERIMENTAL = """
    account/bedrock/checkGovCloudRequirements account/bedrock/discover account/bedrock/setup
    account/gcp/setup accountSession/list accountSession/switch
    environment/add environment/info environment/status
    mcpServer/event/stream/start
    mcpServer/event/stream/stop memory/reset memory/status plugin/search
    project/create
    project/delete project/import project/list project/move project/read project/update
    remoteControl/client/list remoteControl/client/revoke remoteControl/disable
    remoteControl/enable remoteControl/pairing/start remoteControl/pairing/status
    remoteControl/status/read rollout/compress
    thread/guardianReview thread/memory/read
    thread/prediction/request thread/prepareApprovedPlan thread/readState/update
    thread/realtime/appendAudio thread/realtime/appendSpeech thread/realtime/appendText
    thread/realtime/listVoices thread/realtime/start thread/realtime/stop thread/sample
    thread/sample/cancel thread/timeline/list userVerification/cancel
    userVerification/delete userVerification/enroll userVerification/status
    userVerification/verify
"""
